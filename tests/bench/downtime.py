# SPDX-License-Identifier: Apache-2.0
"""The time a node is down, from 4.3.12 to 4.4.0: by the runbook, by emqx-upgrade, and at the floor of what a package manager
needs. All three take turns on copies of one machine's disk; see README.md."""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import conftest  # noqa: E402
import plot  # noqa: E402
from machine.cache import cached, digest  # noqa: E402
from machine.machine import claim_work, remove_dead_runs  # noqa: E402
from system import upgrade  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
FROM, TO = "4.3.12", "4.4.0"

#: A real package's size.
PADDED_FILES, PADDED_BYTES = 4400, 118 << 20

#: Data for each 4 GiB: three quarters in tables, each with a log that grows until it is a quarter of its table, the rest in small files.
SMALL_FILES_PER_BYTE = 50_000 / (4 << 30)
TABLES = 4
DISK_BYTES = 20 << 30

#: Fills directory $1 with $2 bytes, $3 of them small files, all incompressible.
FILL = r"""
import os, sys
top, size, n_small, tables = sys.argv[1], *map(int, sys.argv[2:5])
def fill(path, size_bytes):
    with open(path, "wb") as f:
        while size_bytes > 0:
            size_bytes -= f.write(os.urandom(min(size_bytes, 1 << 20)))
os.makedirs(f"{top}/tables")
for i in range(tables):
    fill(f"{top}/tables/{i}.DCD", size * 3 // 4 * 9 // 10 // tables)
    fill(f"{top}/tables/{i}.DCL", size * 3 // 4 // 10 // tables)
for i in range(n_small):
    if i % 500 == 0:
        os.makedirs(f"{top}/small/{i // 500}")
    fill(f"{top}/small/{i // 500}/{i}", size // 4 // n_small)
"""

#: Writes a hundredth of all that: one small file in fifty anew, the rest at the ends of the tables' logs.
CHANGE = r"""
import os, sys
top, size, n_small, tables = sys.argv[1], *map(int, sys.argv[2:5])
for i in range(0, n_small, 50):
    with open(f"{top}/small/{i // 500}/{i}", "wb") as f:
        f.write(os.urandom(size // 4 // n_small))
for i in range(tables if size else 0):
    with open(f"{top}/tables/{i}.DCL", "ab") as f:
        f.write(os.urandom(size // 200 // tables))
"""

#: The document's steps without a human's pauses (dpkg asks what to do with changed configuration files), its copies made as
#: they should be.
RUNBOOK = """set -e
systemctl stop emqx
mkdir /root/backup
cp -a /etc/emqx /root/backup/etc
cp -a /var/lib/emqx /root/backup/data
dpkg -r emqx
dpkg --force-confold -i {package}
cp -a /root/backup/etc/. /etc/emqx
cp -a /root/backup/data/. /var/lib/emqx
systemctl start emqx
"""

FLOOR = """set -e
systemctl stop emqx
dpkg -r emqx
dpkg --force-confold -i {package}
systemctl start emqx
"""


def bytes_of(text):
    number, unit = text.rstrip("KMG"), text[-1:]
    return int(number) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit, 1)


def padded(node_packages):
    """Directory of both packages, as large as real ones."""
    def pad(path, version):
        (deb,) = node_packages.joinpath(version).glob("*.deb")
        with tempfile.TemporaryDirectory(dir=path) as scratch:
            top = pathlib.Path(scratch, "top")
            subprocess.run(["dpkg-deb", "-R", deb, top], check=True)
            pad = top / f"usr/lib/emqx/lib/padding-{version}/ebin"
            pad.mkdir(parents=True)
            sums = []
            for i in range(PADDED_FILES):
                # Compresses by half, as programs do.
                file = pad / f"module_{i}.beam"
                file.write_text(os.urandom(PADDED_BYTES // PADDED_FILES // 2).hex())
                sums.append(file.relative_to(top))
            summed = subprocess.run(["md5sum", *sums], cwd=top, check=True, capture_output=True, text=True).stdout
            with open(top / "DEBIAN/md5sums", "a") as f:
                f.write(summed)
            control = top / "DEBIAN/control"
            control.write_text(re.sub(r"(?m)^Installed-Size: (\d+)$", lambda m: f"Installed-Size: {int(m[1]) + (PADDED_BYTES >> 10)}",
                                      control.read_text()))
            out = path / deb.name
            subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--threads-max=2", "-b", top, out], check=True,
                           stdout=subprocess.DEVNULL)
        (path / f"{out.name}.sha256").write_text(subprocess.run(["sha256sum", out.name], cwd=path, check=True,
                                                                capture_output=True, text=True).stdout.split()[0] + "\n")

    def make(path):
        for version in (FROM, TO):
            pad(path, version)
    stamps = [(node_packages / v / ".stamp").read_text() for v in (FROM, TO)]
    return cached("bench-packages", digest(*stamps, PADDED_FILES, PADDED_BYTES, "2"), make)


class Case:
    """One size of data on one file system: a disk from which every run begins."""

    def __init__(self, bench, file_system, data_bytes):
        self.bench, self.file_system, self.data_bytes = bench, file_system, data_bytes
        self.n_small = max(1, round(data_bytes * SMALL_FILES_PER_BYTE))
        self.disk = bench.work / f"{file_system}-{data_bytes}.image"

    def writer(self, script):
        return ["/usr/bin/python3", "-c", script, "/var/lib/emqx/mnesia/bench", *map(str, (self.data_bytes, self.n_small, TABLES))]

    def prepare(self):
        with conftest.Node(self.bench.root, self.bench.node_packages, disk=self.file_system, disk_bytes=DISK_BYTES) as m:
            m.run("systemctl stop emqx")
            m.install(self.bench.package(FROM))
            m.run(f"mkdir -p {conftest.PACKAGES}")
            for version in (FROM, TO):
                deb = self.bench.package(version)
                for file in (deb, deb.with_name(f"{deb.name}.sha256")):
                    m.push(file, conftest.PACKAGES)
            if self.data_bytes:
                m.run(self.writer(FILL), timeout=900)
                m.run("chown -R emqx:emqx /var/lib/emqx/mnesia/bench")
            m.run("systemctl start emqx")
            m.poweroff()
            m.take_disk(self.disk)

    def run(self, method):
        """One run of "runbook", "emqx-upgrade" or "floor": what the client saw, and what the journal tells."""
        subprocess.run(["sync"], check=True)
        with conftest.Node(self.bench.root, self.bench.node_packages, disk=self.file_system, disk_image=self.disk) as m:
            m.wait_until(lambda: upgrade.running_version(m) == FROM, timeout=60)
            m.run(["sync"])
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
            m.run(["mosquitto_pub", "-t", "bench", "-m", "x"])
            with self.client(m) as client:
                if method == "emqx-upgrade":
                    result = self.upgrade(m)
                else:
                    self.change(m)
                    script = {"runbook": RUNBOOK, "floor": FLOOR}[method]
                    m.run(script.format(package=f"{conftest.PACKAGES}/{self.bench.package(TO).name}"), timeout=900)
                    result = {}
                seen, trouble = client.communicate(timeout=120)
                if client.returncode != 0:
                    raise SystemExit(f"{method} on {self.file_system}: {trouble}")
            version = upgrade.running_version(m)
            if version != TO:
                raise SystemExit(f"{method} on {self.file_system}: the node says that it is {version}")
            return {**json.loads(seen), **result}

    @contextlib.contextmanager
    def client(self, m):
        argv = ["nsenter", "-t", str(m.leader), "-n", "/usr/bin/python3", HERE / "client.py", "1883", m.path(m.log)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            try:
                if client.stdout.readline() != "serving\n":
                    raise SystemExit(f"the client did not begin: {client.stderr.read()}")
                yield client
            finally:
                client.kill()

    def change(self, m):
        if self.data_bytes:
            m.run(self.writer(CHANGE), timeout=120)

    def upgrade(self, m):
        """The hundredth is written by a hook, while the node is drained."""
        if self.data_bytes:
            script = "#!/bin/sh\n[ $1 = drain ] || exit 0\nexec python3 - " + " ".join(self.writer(CHANGE)[3:]) + \
                f" <<'END'\n{CHANGE}END\n"
            m.write("/etc/emqx-upgrade/hooks.d/change", script, mode=0o755)
        started = upgrade.start(m, TO, timeout=900)
        if started.returncode != 0:
            raise SystemExit(f"the upgrade failed on {self.file_system}:\n{m.run('journalctl -u emqx-upgrade@* -n 40').stdout}")
        ready = upgrade.events(m, "node-ready")[-1]
        return {"told_sec": int(ready["EMQX_UPGRADE_DOWNTIME_USEC"]) / 1e6,
                "steps_sec": {e["EMQX_UPGRADE_STEP"]: int(e["EMQX_UPGRADE_USEC"]) / 1e6 for e in upgrade.events(m, "step-done")}}


class Bench:
    METHODS = ("runbook", "emqx-upgrade", "floor")

    def __init__(self, work):
        self.work = work
        deb = conftest.unwrapped(conftest.emqx_upgrade_deb)()
        self.node_packages = conftest.unwrapped(conftest.node_packages)()
        self.root = conftest.unwrapped(conftest.populated_root)(deb, self.node_packages)(FROM)
        self.packages = padded(self.node_packages)

    def package(self, version):
        (deb,) = self.packages.glob(f"*{version}*.deb")
        return deb

    def measure(self, file_system, data_bytes, pairs):
        """Rows of one case, the three methods in turn, each first once in three."""
        case = Case(self, file_system, data_bytes)
        print(f"{file_system}, {data_bytes >> 20} MiB: making the disk", flush=True)
        case.prepare()
        rows = []
        for i in range(pairs):
            for method in self.METHODS[i % 3:] + self.METHODS[:i % 3]:
                row = {"file_system": file_system, "data_bytes": data_bytes, "method": method, **case.run(method)}
                rows.append(row)
                print(f"  {method:13} down {row['down_sec']:6.2f} s", flush=True)
        case.disk.unlink()
        return rows


def median(rows, method, key="down_sec"):
    return statistics.median(r[key] for r in rows if r["method"] == method)


def table(rows):
    """Markdown: a line for each case."""
    lines = ["| file system | data | runbook | emqx-upgrade | floor | to runbook | to floor |", "|---|---:|---:|---:|---:|---:|---:|"]
    for file_system, data_bytes in dict.fromkeys((r["file_system"], r["data_bytes"]) for r in rows):
        case = [r for r in rows if (r["file_system"], r["data_bytes"]) == (file_system, data_bytes)]
        runbook, ours, floor = (median(case, m) for m in Bench.METHODS)
        lines.append(f"| {file_system} | {data_bytes >> 20} MiB | {runbook:.2f} s | {ours:.2f} s | {floor:.2f} s "
                     f"| {ours / runbook:.2f} | {ours / floor:.2f} |")
    return "\n".join(lines)


def steps_table(rows):
    """Markdown: medians of the steps of emqx-upgrade while the node is down, and of what is neither the node's time nor dpkg's."""
    steps, others = ("stop", "backup", "remove", "install", "restore", "start"), ("stop", "remove", "install", "start")
    lines = [f"| file system | data | {' | '.join(steps)} | down, as it told | beside {', '.join(others)} |",
             "|---|---:|" + "---:|" * (len(steps) + 2)]
    for file_system, data_bytes in dict.fromkeys((r["file_system"], r["data_bytes"]) for r in rows):
        ours = [r for r in rows if (r["file_system"], r["data_bytes"], r["method"]) == (file_system, data_bytes, "emqx-upgrade")]
        cells = [f"{statistics.median(r['steps_sec'][s] for r in ours):.2f} s" for s in steps]
        beside = statistics.median(r["told_sec"] - sum(r["steps_sec"][s] for s in others) for r in ours)
        lines.append(f"| {file_system} | {data_bytes >> 20} MiB | {' | '.join(cells)} | {median(ours, 'emqx-upgrade', 'told_sec'):.2f} s "
                     f"| {beside:.2f} s |")
    return "\n".join(lines)


def here():
    """What it was measured on."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) >> 20 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return f"{os.cpu_count()} cores of {model}, {memory} GiB of memory, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/downtime", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5, help="runs of each method in each case")
    parser.add_argument("--data", default="0,256M,1G,4G", help="sizes of the node's data")
    parser.add_argument("--file-system", default="ext4,xfs")
    parser.add_argument("--output", type=pathlib.Path, help="directory for results.json, table.md and plot.svg")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without taking the machine down
    remove_dead_runs()
    work, lock = claim_work(f"bench-{os.getpid()}")
    try:
        bench = Bench(work)
        rows = []
        for file_system in options.file_system.split(","):
            for size in options.data.split(","):
                rows += bench.measure(file_system, bytes_of(size), options.pairs)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.close()
    text = f"{here()}; {options.pairs} runs of each, medians.\n\n{table(rows)}\n\n{steps_table(rows)}\n"
    print(f"\n{text}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.json").write_text(json.dumps({"machine": here(), "runs": rows}, indent=1) + "\n")
        (options.output / "table.md").write_text(text)
        (options.output / "plot.svg").write_text(plot.bars(rows, Bench.METHODS, median))


if __name__ == "__main__":
    main()
