# SPDX-License-Identifier: Apache-2.0
"""The first pass over a node's data, as the step `stage` makes it, in turn with `cp -a --reflink=auto` and sync, and the archive, as
the step `archive` makes it, in turn with tar and zstd of the same level: the same tree on the same file system, with the page
cache dropped before each. And the memory that these, the pass with the node down and the restore have taken at most. See
README.md."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import conftest  # noqa: E402
from machine.cache import cached, tree_digest  # noqa: E402
from machine.machine import claim_work, remove_dead_runs  # noqa: E402

DISK_SPARE_BYTES = 2 << 30
MAKE_DISK = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def bytes_of(text):
    number, unit = text.rstrip("KMG"), text[-1:]
    return int(number) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit, 1)


def program():
    """copy-tree, built from the tree as it is."""
    def make(path):
        conftest._export(path / "export")
        conftest._build(["sh", "-c", "autoreconf -fi && ./configure -q CFLAGS=-O2 && make -s -j2 tests/bench/copy-tree"], path / "export")
        shutil.copy(path / "export/tests/bench/copy-tree", path / "copy-tree")
        shutil.rmtree(path / "export")
    return cached("program-copy-tree", tree_digest("configure.ac", "Makefile.am", "src", "tests/bench/copy-tree.c"), make) / "copy-tree"


def fill(top, size_bytes, n_small):
    """Three quarters in four large files, the rest in small ones, all incompressible."""
    large = size_bytes * 3 // 4 // 4 if n_small else size_bytes // 4
    for i in range(4):
        with open(top / f"table-{i}.DCD", "wb") as f:
            left = large
            while left > 0:
                left -= f.write(os.urandom(min(left, 1 << 20)))
    for i in range(n_small):
        directory = top / "small" / str(i // 500)
        if i % 500 == 0:
            directory.mkdir(parents=True)
        (directory / f"{i}").write_bytes(os.urandom(size_bytes // 4 // n_small))


@contextlib.contextmanager
def mounted(work, file_system, size_bytes):
    image, where = work / f"{file_system}.image", work / file_system
    with open(image, "wb") as f:
        f.truncate(3 * size_bytes + DISK_SPARE_BYTES)
    subprocess.run([*MAKE_DISK[file_system], image], check=True)
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
        image.unlink()


def settle():
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def timed(*commands):
    begin = time.monotonic()
    for argv in commands:
        subprocess.run(argv, check=True)
    return {"sec": time.monotonic() - begin}


def said(copy_tree, mode, top):
    out = subprocess.run([copy_tree, mode, top / "live", top / "backup"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def run_cp(top, _):
    settle()
    row = timed(["cp", "-a", "--reflink=auto", top / "live", top / "copy"], ["sync", "-f", top])
    shutil.rmtree(top / "copy")
    return row


def run_pass(top, copy_tree):
    (top / "backup").mkdir()
    settle()
    of = {mode: said(copy_tree, mode, top) for mode in ("first", "last", "restore")}
    shutil.rmtree(top / "backup")
    return {"sec": of["first"]["sec"], "peak_kib": {mode: o["peak_kib"] for mode, o in of.items()}}


def run_tar(top, _):
    """tar reads while zstd compresses; the level is that of emqx-upgrade."""
    settle()
    row = timed(["tar", "-I", "zstd -1 -T1", "--acls", "--xattrs", "-cf", top / "tar.zst", "-C", top, "live"], ["sync", "-f", top])
    (top / "tar.zst").unlink()
    return row


def run_archive(top, copy_tree):
    (top / "backup").mkdir()
    for mode in ("first", "last"):
        said(copy_tree, mode, top)
    settle()
    row = said(copy_tree, "archive", top)
    verified = said(copy_tree, "verify", top)
    shutil.rmtree(top / "backup")
    return {"sec": row["sec"], "peak_kib": {"archive": row["peak_kib"], "verify": verified["peak_kib"]}}


PAIRS = [("cp", run_cp, "pass", run_pass), ("tar", run_tar, "archive", run_archive)]


def measure(work, copy_tree, file_system, size_bytes, n_small, pairs):
    rows = []
    with mounted(work, file_system, size_bytes) as top:
        (top / "live").mkdir()
        fill(top / "live", size_bytes, n_small)
        time.sleep(3)  # what is younger than two seconds is not vouched for, and copied again
        for i in range(pairs):
            for name, run, our_name, our_run in PAIRS:
                for method, function in ((name, run), (our_name, our_run))[::1 if i % 2 else -1]:
                    row = {"file_system": file_system, "size_bytes": size_bytes, "n_small": n_small, "method": method,
                           **function(top, copy_tree)}
                    rows.append(row)
                    print(f"  {file_system} {size_bytes >> 20} MiB {n_small} small: {method:7} {row['sec']:6.2f} s", flush=True)
    return rows


def table(rows):
    lines = ["| file system | data | small files | cp and sync | first pass | throughput to cp | tar and zstd | archive | throughput to tar "
             "| memory: first, last, restore, archive, verify |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for case in dict.fromkeys((r["file_system"], r["size_bytes"], r["n_small"]) for r in rows):
        mine = [r for r in rows if (r["file_system"], r["size_bytes"], r["n_small"]) == case]
        cells = []
        for theirs, _, ours, _ in PAIRS:
            their_sec, our_sec = (statistics.median(r["sec"] for r in mine if r["method"] == m) for m in (theirs, ours))
            cells.append(f"{their_sec:.2f} s | {our_sec:.2f} s | {their_sec / our_sec:.2f}")
        peaks = [max(r["peak_kib"][mode] for r in mine if mode in r.get("peak_kib", ())) / 1024
                 for mode in ("first", "last", "restore", "archive", "verify")]
        lines.append(f"| {case[0]} | {case[1] >> 20} MiB | {case[2]} | {' | '.join(cells)} | {', '.join(f'{p:.0f}' for p in peaks)} MiB |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/copy", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5, help="runs of each method in each case")
    parser.add_argument("--data", default="1G,4G", help="sizes of the tree")
    parser.add_argument("--small-files", default="0,20000", help="numbers of small files among them, a quarter of the data")
    parser.add_argument("--file-system", default="ext4,xfs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without unmounting
    remove_dead_runs()
    work, lock = claim_work(f"bench-{os.getpid()}")
    rows = []
    try:
        copy_tree = program()
        for file_system in options.file_system.split(","):
            for size in options.data.split(","):
                for n_small in options.small_files.split(","):
                    rows += measure(work, copy_tree, file_system, bytes_of(size), int(n_small), options.pairs)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.close()
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
