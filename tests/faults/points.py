# SPDX-License-Identifier: Apache-2.0
"""The points: where an upgrade is broken.

A point is the n-th call of its name in the process that runs KEY (see rig.py); n counts all calls of that name, as strace's
when= does. There are three sorts:

    call     a call of a clean upgrade that makes something durable, or changes what is
    event    one that sends an event to the journal: between any two of them lies a step, a check, a wait
    moment   so many ms after the start, KEY "moment": seeded, anywhere

Recorded, not listed: new code is covered without anyone remembering.

Many points are one place in a program: dpkg does the same with each file of a package. A site is what is alike of a program, the
step in which it runs, the call, and what the call is about, or what the event says; a sample takes sites, and of each a point."""

import collections
import dataclasses
import json
import pathlib
import random
import re
import time

import judge
import upgrade
from machine.cache import cached, digest, tree_digest

Point = collections.namedtuple("Point", "key call n line step", defaults=("",))

#: What creates, writes, syncs, renames, links, unlinks, or changes mode, owner, size, times or attributes.
CALLS = ("openat open creat write pwrite64 writev pwritev copy_file_range sendfile fsync fdatasync syncfs sync sync_file_range msync "
         "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat chmod "
         "fchmod fchmodat chown lchown fchown fchownat truncate ftruncate fallocate utimensat setxattr lsetxattr fsetxattr "
         "removexattr lremovexattr fremovexattr ioctl").split()
EVENT = "sendmsg"

LINE_RE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\)\s+= (-?\w+)")  # strace -ttt
PATH_RE = re.compile(r'<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')
MESSAGE_RE = re.compile(r'iov_base="MESSAGE=((?:[^"\\]|\\.)*)"')
FOREIGN = ("/proc", "/sys", "/dev")
WRITES = ("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile")


def is_durable(call, arguments, result):
    if result.startswith("-"):
        return False
    if call == EVENT:
        return "/run/systemd/journal/socket" in arguments
    if call in ("openat", "open") and not re.search(r"O_(CREAT|TRUNC|TMPFILE)\b", arguments):
        return False
    if call == "ioctl" and "FICLONE" not in arguments:
        return False
    if call in WRITES:
        fd = re.match(r"\d+<([^>]*)>", arguments)
        return bool(fd) and fd[1].startswith("/") and not fd[1].startswith(FOREIGN)
    paths = [a or b for a, b in PATH_RE.findall(arguments)]
    return not (paths and all(path.startswith(FOREIGN) for path in paths))


def sort(point):
    return "moment" if point.key == "moment" else "event" if point.call == EVENT else "call"


def moments(n, span_ms, seed):
    rng = random.Random(f"{seed} moments")
    return [Point("moment", "ms", ms, "") for ms in sorted(rng.sample(range(span_ms), min(n, span_ms)))]


def site(point):
    if sort(point) == "moment":
        return point
    if sort(point) == "event":
        said = MESSAGE_RE.search(point.line)
        return point.key, point.step, point.call, re.sub(r"\b[0-9a-f]{8,32}\b|\d+", "N", said[1]) if said else "", ""
    path = next((a or b for a, b in PATH_RE.findall(point.line)), "")
    place = re.sub(r"\b[0-9a-f]{8,32}\b|\d+", "N", "/".join(path.split("/")[:5]) if path.startswith("/") else "")
    # "name.dpkg-new" is another place than "name", and so is ".name.tmp"; the name is not.
    return point.key, point.step, point.call, place, re.sub(r"\d+", "N", pathlib.PurePath(path).suffix)


def one_of_each_site(found, rng):
    by_site = collections.defaultdict(list)
    for point in found:
        by_site[site(point)].append(point)
    return [rng.choice(points) for points in by_site.values()]


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
        if is_durable(call, arguments, result):
            step = next((name for begun, name in reversed(steps) if begun <= float(at)), "")
            yield Point(key, call, counts[call], line[len(at) + 1:][:200], step)


def record(rig):
    """(points, snapshot at the end, ms it took): an upgrade that nobody disturbs, with every program of it under strace."""
    m = rig.machine()
    try:
        m.write("/faults/record", ",".join(f"?{call}" for call in (*CALLS, EVENT)))
        messages = upgrade.retained(m, m.n_retained)
        before = judge.snapshot(m)
        begin = time.monotonic()
        upgrade.start(m)
        took_ms = int((time.monotonic() - begin) * 1000)
        m.path("/faults/record").unlink()
        done = judge.snapshot(m)
        verdict = judge.judge(m, before, done, messages)
        assert verdict == (judge.NEW if rig.way == "there" else judge.OLD, []), \
            f"{verdict}\n" + m.run("journalctl -u 'emqx-upgrade*' --no-pager").stdout
        points, steps = [], steps_by_time(m)
        for trace in sorted(pathlib.Path(m.path("/faults/log")).glob("*/trace")):
            points += parse(trace.parent.name, trace.read_text(errors="replace"), steps)
        return points, done, took_ms
    finally:
        m.stop()


def recorded(rig):
    """The same from the cache: recorded once for each build and each node."""
    def make(path):
        points, done, took_ms = record(rig)
        (path / "points.json").write_text(json.dumps([points, dataclasses.asdict(done), took_ms]))
    key = digest(rig.package.read_bytes(), rig.root, tree_digest(*(f"tests/faults/{name}.py" for name in ("judge", "points", "rig"))))
    points, done, took_ms = json.loads((cached(f"faults-{rig.kind}-{rig.way}", key, make) / "points.json").read_text())
    done["files"] = {path: tuple(values) for path, values in done["files"].items()}
    done["package"] = tuple(done["package"])
    return [Point(*point) for point in points], judge.Snapshot(**done), took_ms
