# SPDX-License-Identifier: Apache-2.0
"""The points: where an upgrade is broken.

A point is the n-th call of its name in the process that runs KEY (see rig.py); n counts all calls of that name, as strace's
when= does. There are four sorts:

    call     a call of a clean upgrade that makes something durable, or changes what is
    look     one of our own programs that opens what is ours or the node's to read it, or that connects to somebody
    event    one that sends an event to the journal: between any two of them lies a step, a check, a wait
    moment   so many ms after the start, KEY "moment": seeded, anywhere

Recorded, not listed: new code is covered without anyone remembering.

Many points are one place in a program: dpkg does the same with each file of a package. A site is what is alike of a program, the
step in which it runs, the call, and what the call is about, or what the event says. Of a site the first point, the last one and one
between stand for all, so of what comes three times or less no point is left out."""

import collections
import dataclasses
import json
import pathlib
import random
import re
import time

import judge
import rig as rigs
import upgrade
from machine.cache import cached, digest, identity, tree_digest

#: part: which one of its site, where not all are taken.
Point = collections.namedtuple("Point", "key call n line step part", defaults=("", ""))

#: What is known of an upgrade that nobody disturbs: its points, snapshots of the old version and the new one, ms it took.
Recorded = collections.namedtuple("Recorded", "points old new took_ms")

#: What creates, writes, syncs, renames, links, unlinks, or changes mode, owner, size, times or attributes.
CALLS = ("openat open creat write pwrite64 writev pwritev copy_file_range sendfile fsync fdatasync syncfs sync sync_file_range msync "
         "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat chmod "
         "fchmod fchmodat chown lchown fchown fchownat truncate ftruncate fallocate utimensat setxattr lsetxattr fsetxattr "
         "removexattr lremovexattr fremovexattr ioctl connect").split()
EVENT = "sendmsg"

LINE_RE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\)\s+= (-?\w+)")  # strace -ttt
OPENS = ("openat", "open")
CREATES_RE = re.compile(r"\bO_(CREAT|TRUNC|TMPFILE)\b")
OURS_RE = re.compile(r"(conduct|rollback|resume|step-)")
PATH_RE = re.compile(r'<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')
MESSAGE_RE = re.compile(r'iov_base="MESSAGE=((?:[^"\\]|\\.)*)"')
FOREIGN = ("/proc", "/sys", "/dev")
LOOKED_AT = (upgrade.STATE, "/etc/emqx", "/var/lib/emqx", "/opt/emqx")
WRITES = ("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile")

QUERY_RE = re.compile(r"(dpkg|rpm)\.")
NUMBER_RE = re.compile(r"\b[0-9a-f]{8,32}\b|\d+|(?<=/emqx-upgrade-dpkg\.)\w{6}")
PASSING_RE = re.compile(r"\.dpkg-\w+$|\.rpm\w+$|;\w+$|\.tmp$|\.part$|\.gone$")

#: How many names below are told apart: files of configuration, data and packages, and of copies of them, are all the same.
DEPTHS = {f"{upgrade.STATE}/backups/N/": 1, f"{upgrade.STATE}/": 1, "/run/systemd/": 3, "/run/": 2, "/tmp/": 2, "/var/lib/dpkg/": 2,
          "/var/lib/rpm/": 1}


def is_durable(call, arguments, result):
    if result.startswith("-"):
        return False
    if call == EVENT:
        return "/run/systemd/journal/socket" in arguments
    if call == "connect" or (call in OPENS and not CREATES_RE.search(arguments)):
        return False
    if call == "ioctl" and "FICLONE" not in arguments:
        return False
    if call in WRITES:
        fd = re.match(r"\d+<([^>]*)>", arguments)
        return bool(fd) and fd[1].startswith("/") and not fd[1].startswith(FOREIGN)
    return not _path(call, arguments).startswith(FOREIGN)


def is_look(key, call, arguments, result):
    """A package manager's own are its own matter: it fails, as it does for what it cannot write."""
    if not OURS_RE.match(key):
        return False
    if call == "connect":
        return result == "0" or "EINPROGRESS" in result
    path = _path(call, arguments)
    return call in OPENS and not result.startswith("-") and path.startswith(LOOKED_AT) and not CREATES_RE.search(arguments)


def sort(point):
    if point.key == "moment":
        return "moment"
    if point.call == EVENT:
        return "event"
    return "look" if point.call == "connect" or (point.call in OPENS and not CREATES_RE.search(point.line)) else "call"


def _path(call, text):
    """What a call is about: the file of its first descriptor, or the name that it has below that; AT_FDCWD is said as such."""
    paths = [a or b for a, b in PATH_RE.findall(text)]
    if "at" in call and "<" in text.partition(",")[0] and len(paths) > 1:
        return paths[1] if paths[1].startswith("/") else f"{paths[0].rstrip('/')}/{paths[1]}"
    return paths[0] if paths else ""


def moments(n, span_ms, seed):
    rng = random.Random(f"{seed} moments")
    return [Point("moment", "ms", ms, "") for ms in sorted(rng.sample(range(span_ms), min(n, span_ms)))]


def place(path):
    """"name.dpkg-new" is another place than "name", and so is ".name.tmp"; the name itself is not, but for those of our own."""
    passing = PASSING_RE.search(path)
    path = NUMBER_RE.sub("N", path)
    top, depth = next(((top, depth) for top, depth in DEPTHS.items() if path.startswith(top)), ("", None))
    names = path[len(top):].split("/")
    if depth:
        return top + "/".join(names[:depth]) + (" " + passing[0][:4] if passing and len(names) > depth else "")
    return "/".join(names[:-1][:4]) + (" " + passing[0][:4] if passing else "")


def site(point):
    if sort(point) == "moment":
        return point
    if sort(point) == "event":
        said = MESSAGE_RE.search(point.line)
        return point.key, point.step, point.call, NUMBER_RE.sub("N", said[1]) if said else ""
    path = _path(point.call, point.line)
    # What a package manager is asked, it is asked often; its runs that change something are told apart.
    key = point.key.partition(".")[0] if QUERY_RE.match(point.key) else point.key
    return key, point.step, point.call, place(path) if path.startswith("/") else ""


def of_each_site(found, common=()):
    """The first, the last, and one between; of sites in common the first alone, and no look."""
    by_site = collections.defaultdict(list)
    for point in found:
        by_site[site(point)].append(point)
    chosen = []
    for mine in by_site.values():
        if site(mine[0]) in common and sort(mine[0]) == "look":
            continue
        chosen.append(mine[0]._replace(part="first"))
        if site(mine[0]) in common:
            continue
        if len(mine) > 2:
            chosen.append(mine[len(mine) // 2]._replace(part="between"))
        if len(mine) > 1:
            chosen.append(mine[-1]._replace(part="last"))
    return chosen


def steps_by_time(m):
    """[(seconds since 1970, step that begins then)], of the one upgrade that the machine has had."""
    return sorted((int(e["__REALTIME_TIMESTAMP"]) / 1e6, ("undo " if "undo" in e["EMQX_UPGRADE_EVENT"] else "") + e["EMQX_UPGRADE_STEP"])
                  for e in upgrade.events(m) if e["EMQX_UPGRADE_EVENT"] in ("step-begun", "step-undo-begun"))


def parse(key, trace, steps):
    counts = collections.Counter()
    for line in trace.splitlines():
        match = LINE_RE.match(line)
        if not match:
            continue
        at, call, arguments, result = match.groups()
        counts[call] += 1
        if is_durable(call, arguments, result) or is_look(key, call, arguments, result):
            step = next((name for begun, name in reversed(steps) if begun <= float(at)), "")
            yield Point(key, call, counts[call], line[len(at) + 1:][:200], step)


def begin_of(trace):
    return float(trace.partition(" ")[0] or "inf")


def interruption(rig):
    """Half-way through what is done to install the new version, by the conductor or by the others."""
    there = [p for p in recorded(rigs.Rig(rig.kind, "there", rig.package)).points if p.step == "install" and p.call != EVENT]
    mine = [p for p in there if p.key.startswith("conduct.") == (rig.way == "restarted")]
    return mine[len(mine) // 2]


def record(rig):
    """An upgrade that nobody disturbs, with every program of it under strace."""
    m = rig.machine()
    try:
        m.write("/faults/record", ",".join(f"?{call}" for call in (*CALLS, EVENT)))
        messages = upgrade.retained(m, m.n_retained)
        before = judge.snapshot(m)
        begin = time.monotonic()
        rig.start(m)
        judge.settle(m)
        took_ms = int((time.monotonic() - begin) * 1000)
        m.path("/faults/record").unlink()
        after = judge.snapshot(m)
        old, new = (after, before) if rig.way == "by-hand" else (before, after)
        verdict = judge.judge(m, old, new, messages)
        assert verdict == (judge.OLD if rig.way in ("back", "by-hand") else judge.NEW, []), \
            f"{verdict}\n" + m.run("journalctl -u 'emqx-upgrade*' --no-pager").stdout
        points, steps = [], steps_by_time(m)
        traces = {trace.parent.name: trace.read_text(errors="replace") for trace in pathlib.Path(m.path("/faults/log")).glob("*/trace")}
        since = min(begin_of(traces[key]) for key in traces if not rig.first or key in ("conduct.1", "resume.0"))
        for key in sorted(traces):
            if begin_of(traces[key]) >= since:
                points += parse(key, traces[key], steps)
        return Recorded(points, old, new, took_ms)
    finally:
        m.stop()


def recorded(rig):
    """The same from the cache: recorded once for each build and each node."""
    if rig.way in ("restarted", "booted"):
        rig.first = interruption(rig)

    def make(path):
        made = record(rig)
        (path / "recorded.json").write_text(json.dumps(made._replace(old=dataclasses.asdict(made.old), new=dataclasses.asdict(made.new))))
    key = digest(rig.package.read_bytes(), identity(rig.root), tree_digest(*(f"tests/faults/{name}.py" for name in ("judge", "points", "rig"))))
    told = Recorded(*json.loads((cached(f"faults-{rig.kind}-{rig.way}", key, make) / "recorded.json").read_text()))
    for snapshot in (told.old, told.new):
        snapshot["files"] = {path: tuple(values) for path, values in snapshot["files"].items()}
        snapshot["package"] = tuple(snapshot["package"])
    return told._replace(points=[Point(*point) for point in told.points], old=judge.Snapshot(**told.old), new=judge.Snapshot(**told.new))
