# SPDX-License-Identifier: Apache-2.0
"""The demo: a machine with an EMQX 4.3.12 node, installed from its package, with an operator's configuration and
retained messages; upgraded to 4.4.0 by `systemctl start emqx-upgrade@4.4.0`, from our installed package."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import conftest  # noqa: E402
from machine.cache import CACHE  # noqa: E402
from machine.machine import WORK, remove_dead_runs  # noqa: E402
from node.kinds import LAYOUTS  # noqa: E402
from system import upgrade  # noqa: E402

WIDTH = 48
UPGRADE_TIMEOUT_SEC = 300
REPORT = pathlib.Path("/var/tmp/emqx-upgrade-demo.html")


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def timeline(done):
    """A bar for each step, where it lay in time."""
    ends = {e["EMQX_UPGRADE_STEP"]: int(e["__REALTIME_TIMESTAMP"]) for e in done}
    took = {e["EMQX_UPGRADE_STEP"]: int(e["EMQX_UPGRADE_USEC"]) for e in done}
    first = min(ends[s] - took[s] for s in ends)
    scale = WIDTH / (max(ends.values()) - first)
    for step in ends:
        begin = round((ends[step] - took[step] - first) * scale)
        length = max(1, round(took[step] * scale))
        down = step in ("stop", "backup", "remove", "install", "restore", "start")
        print(f"  {step:8} {took[step] / 1e6:6.2f} s  {' ' * begin}{('#' if down else '=') * length}")
    print(f"  {'':17}   {'#'}: the node is down, {'='}: it serves")


def main(kind):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without taking the machine down
    remove_dead_runs()
    say("Building the package of emqx-upgrade, and the packages of a test node (kept in the cache)")
    deb = conftest.unwrapped(conftest.emqx_upgrade_deb)()
    packages = conftest.unwrapped(conftest.node_packages)()
    root = conftest.unwrapped(conftest.populated_root)(deb, packages)
    print(f"  {deb.name}, {', '.join(f.name for v in ('4.3.12', '4.4.0') for f in (packages / v).glob(f'*.{kind}'))}")

    say(f"Booting a machine with EMQX 4.3.12, installed from its {kind}")
    m = conftest._boot_node(root, packages, kind=kind)
    try:
        ctl = f"su - emqx -s /bin/sh -c '{m.bin_dir}/emqx_ctl status'"
        messages = upgrade.retained(m, m.n_retained)
        before = upgrade.node_files(m)
        print(f"  emqx_ctl: {m.run(ctl).stdout.strip()}")
        print(f"  {len(messages)} retained messages, {len(before['etc'])} files in {m.etc}, {len(before['data'])} in {m.data}")

        say("# emqx-upgrade plan 4.4.0")
        print(m.run("emqx-upgrade plan 4.4.0", check=False).stdout)

        say("# systemctl start emqx-upgrade@4.4.0     (and: journalctl -fu emqx-upgrade@4.4.0)")
        # All of its journal from the first line on: a new unit has no older ones.
        follow = m.spawn(["journalctl", "-f", "--no-tail", "-o", "short-precise", "-u", "emqx-upgrade@4.4.0"],
                         stdout=subprocess.PIPE, text=True)
        watch = m.spawn(["emqx-upgrade", "watch"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started = m.spawn(["systemctl", "start", "emqx-upgrade@4.4.0"])
        watchdog = threading.Timer(UPGRADE_TIMEOUT_SEC, m.kill)
        watchdog.start()
        for line in follow.stdout:
            print(f"  {line}", end="", flush=True)
            if "Finished emqx-upgrade@" in line or "Failed to start emqx-upgrade@" in line:
                break
        result = started.wait()
        watchdog.cancel()
        follow.terminate()
        print(f"  systemctl's exit status: {result}")

        say("# emqx-upgrade watch     (the same meanwhile, in another terminal; drawn in place where it is one)")
        print("".join(f"  {line}\n" for line in watch.communicate(timeout=60)[0].splitlines()), end="")
        print(f"  watch's exit status: {watch.returncode}")

        say("# emqx-upgrade status")
        print(m.run("emqx-upgrade status", env={"COLUMNS": "100"}).stdout, end="")

        say("# emqx-upgrade report -o report.html")
        REPORT.write_text(m.run("emqx-upgrade report").stdout)
        print(f"  {REPORT}, to be read in a browser")

        say("Timeline")
        timeline(upgrade.events(m, "step-done"))
        for ready in upgrade.events(m, "node-ready"):
            print(f"\n  The node was down for {int(ready['EMQX_UPGRADE_DOWNTIME_USEC']) / 1e6:.2f} s.")

        say("Proof")
        same = upgrade.retained(m, m.n_retained)
        after = upgrade.node_files(m)
        print(f"  package:   {kind}, {' '.join(upgrade.package_state(m))}")
        print(f"  emqx_ctl:  {m.run(ctl).stdout.strip()}")
        print(f"  MQTT:      {sum(same.get(t) == p for t, p in messages.items())} of {len(messages)} retained messages read back")
        kept = {name: entry for name, entry in before["data"].items() if after["data"].get(name) == entry}
        print(f"  files:     {m.etc} {'is the same to the byte, mode and time' if after['etc'] == before['etc'] else 'DIFFERS'}; "
              f"{len(kept)} of {len(before['data'])} in {m.data} are")
        ok = result == 0 and same == messages and after["etc"] == before["etc"] and upgrade.running_version(m) == "4.4.0"
    finally:
        m.stop()
        with contextlib.suppress(OSError):
            WORK.rmdir()  # unless others have machines there
    say(f"Done. Nothing is left but the report, {REPORT}, and the cache, {CACHE}" if ok else "THE UPGRADE DID NOT DO WHAT IT SHOULD")
    return 0 if ok else 1


if sys.argv[1:] not in ([], *([k] for k in LAYOUTS)):
    sys.exit(f"tests/demo [{'|'.join(LAYOUTS)}]: how the node is installed")
sys.exit(main(*sys.argv[1:] or ["deb"]))
