# SPDX-License-Identifier: Apache-2.0
"""The cache: what takes long to make and depends on nothing but its recipe, kept by the hash of that.

A thing is made aside and renamed into place, under a lock, so that a half-made one is never used and two runs do not
make the same. Whoever uses a thing holds a shared lock on it until his process ends, so that nobody drops it.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

CACHE = pathlib.Path(os.environ.get("EMQX_UPGRADE_TEST_CACHE", "/var/cache/emqx-upgrade-tests"))
TOP = pathlib.Path(__file__).resolve().parents[2]


_in_use = {}  # path: descriptor, whose lock goes with this process


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
        h.update(b"\0")
    return h.hexdigest()[:16]


def identity(path):
    """Of one making of a cached thing, for the key of what is made of it: another has the same content, and other times."""
    return f"{path} {os.stat(path).st_ctime_ns}"


@contextlib.contextmanager
def locked(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _drop_unused(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def cached(name, key, make):
    """CACHE/NAME-KEY, made by make(path) into an empty directory if it is not there. Others of NAME are dropped,
    unless a process uses them."""
    path = CACHE / f"{name}-{key}"
    with locked(name):
        if not path.exists():
            for half_made in CACHE.glob(f".{name}-*.making"):
                shutil.rmtree(half_made, ignore_errors=True)
            aside = CACHE / f".{name}-{key}.making"
            aside.mkdir()
            make(aside)
            for old in CACHE.glob(f"{name}-*"):
                _drop_unused(old)
            aside.rename(path)
        if path not in _in_use:
            _in_use[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(_in_use[path], fcntl.LOCK_SH)
    return path


def tree_digest(*paths):
    """Of everything in these files and directories of the repository, as git would take it."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
                            cwd=TOP, check=True, capture_output=True).stdout
    h = hashlib.sha256()
    for name in sorted(n for n in listed.split(b"\0") if n):
        path = TOP / os.fsdecode(name)
        if path.is_file():
            h.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest() + str(os.access(path, os.X_OK)).encode())
    return h.hexdigest()[:16]
