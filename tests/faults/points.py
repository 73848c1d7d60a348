# SPDX-License-Identifier: Apache-2.0
"""The points: every call of a clean upgrade that makes something durable, or changes what is.

Recorded, not listed: new code is covered without anyone remembering. A point is the n-th call of its name in the process that
runs KEY (see rig.py); n counts all calls of that name, as strace's when= does."""

import collections
import dataclasses
import json
import pathlib
import re

import judge
import upgrade
from machine.cache import cached, digest, tree_digest

Point = collections.namedtuple("Point", "key call n line")

#: What creates, writes, syncs, renames, links, unlinks, or changes mode, owner, size, times or attributes.
CALLS = ("openat open creat write pwrite64 writev pwritev copy_file_range sendfile fsync fdatasync syncfs sync sync_file_range msync "
         "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat chmod "
         "fchmod fchmodat chown lchown fchown fchownat truncate ftruncate fallocate utimensat setxattr lsetxattr fsetxattr "
         "removexattr lremovexattr fremovexattr ioctl").split()

LINE_RE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\w+)")
PATH_RE = re.compile(r'<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')
FOREIGN = ("/proc", "/sys", "/dev")
WRITES = ("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile")


def is_durable(call, arguments, result):
    if result.startswith("-"):
        return False
    if call in ("openat", "open") and not re.search(r"O_(CREAT|TRUNC|TMPFILE)\b", arguments):
        return False
    if call == "ioctl" and "FICLONE" not in arguments:
        return False
    if call in WRITES:
        fd = re.match(r"\d+<([^>]*)>", arguments)
        return bool(fd) and fd[1].startswith("/") and not fd[1].startswith(FOREIGN)
    paths = [a or b for a, b in PATH_RE.findall(arguments)]
    return not (paths and all(path.startswith(FOREIGN) for path in paths))


def parse(key, trace):
    counts = collections.Counter()
    for line in trace.splitlines():
        match = LINE_RE.match(line)
        if not match:
            continue
        counts[match[1]] += 1
        if is_durable(*match.groups()):
            yield Point(key, match[1], counts[match[1]], line[:200])


def record(rig):
    """(points, snapshot at the end): an upgrade that nobody disturbs, with every program of it under strace."""
    m = rig.machine()
    try:
        m.write("/faults/record", ",".join(f"?{call}" for call in CALLS))
        messages = upgrade.retained(m, m.n_retained)
        before = judge.snapshot(m)
        upgrade.start(m)
        m.path("/faults/record").unlink()
        done = judge.snapshot(m)
        verdict = judge.judge(m, before, done, messages)
        assert verdict == (judge.NEW if rig.way == "there" else judge.OLD, []), \
            f"{verdict}\n" + m.run("journalctl -u 'emqx-upgrade*' --no-pager").stdout
        points = []
        for trace in sorted(pathlib.Path(m.path("/faults/log")).glob("*/trace")):
            points += parse(trace.parent.name, trace.read_text(errors="replace"))
        return points, done
    finally:
        m.stop()


def recorded(rig):
    """The same from the cache: recorded once for each build and each node."""
    def make(path):
        points, done = record(rig)
        (path / "points.json").write_text(json.dumps([points, dataclasses.asdict(done)]))
    key = digest(rig.package.read_bytes(), rig.root, tree_digest(*(f"tests/faults/{name}.py" for name in ("judge", "points", "rig"))))
    points, done = json.loads((cached(f"faults-{rig.kind}-{rig.way}", key, make) / "points.json").read_text())
    done["files"] = {path: tuple(values) for path, values in done["files"].items()}
    done["package"] = tuple(done["package"])
    return [Point(*point) for point in points], judge.Snapshot(**done)
