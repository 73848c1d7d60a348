# SPDX-License-Identifier: Apache-2.0
"""How long a message takes through a node while its data are staged, in turn with the same node when nothing is done: the first
pass over the data (`systemctl start emqx-upgrade-stage@4.4.0`), with the page cache dropped before. See README.md."""

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
from downtime import FROM, HERE, TO, Bench, Case, bytes_of, here  # noqa: E402
from machine.machine import claim_work, remove_dead_runs  # noqa: E402
from system import upgrade  # noqa: E402


@contextlib.contextmanager
def roundtrips(m, seen):
    """Fills in seen with what the client has to tell of the time within."""
    argv = ["nsenter", "-t", str(m.leader), "-n", "/usr/bin/python3", HERE / "roundtrips.py", "1883"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        try:
            if client.stdout.readline() != "serving\n":
                raise SystemExit(f"the client did not begin: {client.stderr.read()}")
            yield
            client.send_signal(signal.SIGTERM)
            said, trouble = client.communicate(timeout=60)
            if client.returncode != 0:
                raise SystemExit(f"the client ended: {trouble}")
            seen.update(json.loads(said))
        finally:
            client.kill()


def measure(case, idle_sec):
    """Two rows: of the idle node, and of the same one while it is staged."""
    subprocess.run(["sync"], check=True)
    with conftest.Node(case.bench.root, case.bench.node_packages, disk=case.file_system, disk_image=case.disk) as m:
        m.wait_until(lambda: upgrade.running_version(m) == FROM, timeout=60)
        time.sleep(5)  # what a boot leaves to do
        idle, staging = {}, {}
        with roundtrips(m, idle):
            time.sleep(idle_sec)
        m.run(["sync"])
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        with roundtrips(m, staging):
            begin = time.monotonic()
            m.run(["systemctl", "start", f"emqx-upgrade-stage@{TO}"], timeout=900)
            staging["stage_sec"] = time.monotonic() - begin
        return idle, staging


def table(rows):
    lines = ["| file system | data | staging takes | median: idle, staging | ratio | 99th percentile: idle, staging | ratio |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for file_system, data_bytes in dict.fromkeys((r[0], r[1]) for r in rows):
        mine = [r[2:] for r in rows if r[:2] == (file_system, data_bytes)]
        cells = []
        for key in ("median_msec", "p99_msec"):
            idle, staging = (statistics.median(r[i][key] for r in mine) for i in (0, 1))
            cells.append(f"{idle:.2f} ms, {staging:.2f} ms | {staging / idle:.2f}")
        lines.append(f"| {file_system} | {data_bytes >> 20} MiB | {statistics.median(r[1]['stage_sec'] for r in mine):.1f} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/serving", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--data", default="4G", help="sizes of the node's data")
    parser.add_argument("--file-system", default="ext4,xfs")
    parser.add_argument("--idle-sec", type=int, default=20, help="for how long the idle node is asked")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without taking the machine down
    remove_dead_runs()
    work, lock = claim_work(f"bench-{os.getpid()}")
    rows = []
    try:
        bench = Bench(work)
        for file_system in options.file_system.split(","):
            for size in options.data.split(","):
                case = Case(bench, file_system, bytes_of(size))
                print(f"{file_system}, {case.data_bytes >> 20} MiB: making the disk", flush=True)
                case.prepare()
                for _ in range(options.pairs):
                    idle, staging = measure(case, options.idle_sec)
                    rows.append((file_system, case.data_bytes, idle, staging))
                    print(f"  idle {idle['median_msec']:.2f} ms, {idle['p99_msec']:.2f} ms; staging {staging['median_msec']:.2f} ms, "
                          f"{staging['p99_msec']:.2f} ms in {staging['stage_sec']:.1f} s", flush=True)
                case.disk.unlink()
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.close()
    print(f"\n{here()}; {options.pairs} pairs, medians of each one's.\n\n{table(rows)}")


main()
