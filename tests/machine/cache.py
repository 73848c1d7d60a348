# SPDX-License-Identifier: Apache-2.0
"""The cache: what takes long to make and depends on nothing but its recipe, kept by the hash of that.

A thing is made aside and renamed into place, under a lock, so that a half-made one is never used and two runs do not
make the same.
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


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
        h.update(b"\0")
    return h.hexdigest()[:16]


@contextlib.contextmanager
def locked(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(name, key, make):
    """CACHE/NAME-KEY, made by make(path) into an empty directory if it is not there. Others of NAME are dropped."""
    path = CACHE / f"{name}-{key}"
    with locked(name):
        if not path.exists():
            aside = CACHE / f".{name}-{key}.making"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            make(aside)
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            aside.rename(path)
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
