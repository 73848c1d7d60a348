# SPDX-License-Identifier: Apache-2.0
"""One point: an upgrade that is broken there once, and what became of the machine."""

import time

import judge
import upgrade
from machine.machine import MachineError

ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
FAULTS = ("kill", *ERRORS, "power")
FROZEN_USEC = 300_000_000


def _action(fault, n):
    if fault == "kill":
        return f"signal=SIGKILL:when={n}"
    if fault == "power":
        return f"delay_enter={FROZEN_USEC}:when={n}"  # it stands still there until the power goes
    return f"error={fault}:when={n}"


def _trace(m):
    path = m.path("/faults/hit/trace")
    return path.read_text(errors="replace") if path.exists() else ""


def _stands_still(m, n):
    """strace prints a call when it begins: the last line without an end is the one that waits."""
    trace = _trace(m)
    return trace and not trace.endswith("\n") and trace.count("\n") - trace.count("\n---") >= n - 1


def _hit(m, fault):
    trace = _trace(m)
    marked = [line for line in trace.splitlines() if "(INJECTED)" in line or "killed by SIGKILL" in line or "DELAYED" in line]
    if fault == "kill" and marked:
        return trace.splitlines()[-2][:200] if len(trace.splitlines()) > 1 else marked[0]
    return marked[0][:200] if marked else ""


def _upgrade_with_power_cut(m, point):
    m.run("sync")
    upgrade.start(m, block=False)

    def reached():
        if _stands_still(m, point.n):
            return "yes"
        return "over" if m.exists(f"{upgrade.STATE}/history") and judge.settle(m, timeout=2) else None
    hit = m.wait_until(reached, timeout=60, every=0.02) == "yes"
    last = _trace(m).splitlines()[-1][:200] if hit else ""
    m.power_cut()
    m.path("/faults/plan").unlink(missing_ok=True)
    m.boot()
    return last


def run_point(rig, fault, point, done):
    """A dict for the result file; `losses` is empty where nothing was lost. done: snapshot of a clean upgrade."""
    begin = time.monotonic()
    result = {"kind": rig.kind, "way": rig.way, "fault": fault, **point._asdict(), "hit": "", "outcome": None, "losses": [], "journal": ""}
    m = None
    try:
        m = rig.machine(disk="ext4" if fault == "power" else "overlay")
        messages = upgrade.retained(m, m.n_retained)
        m.write("/faults/plan", f"{point.key} {point.call} {_action(fault, point.n)}\n")
        before = judge.snapshot(m)
        if fault == "power":
            result["hit"] = _upgrade_with_power_cut(m, point)
        else:
            upgrade.start(m, timeout=300)
        result["outcome"], result["losses"] = judge.judge(m, before, done, messages)
        if fault != "power":
            result["hit"] = _hit(m, fault)
        result["journal"] = m.run("journalctl --no-pager -o short-precise -u 'emqx*' -n 400", check=False).stdout
    except MachineError as e:
        result["losses"].append(f"the machine does not answer: {e}")
        if m and m.leader:
            result["journal"] = m.run("journalctl --no-pager -o short-precise -n 400", check=False).stdout
    finally:
        if m:
            m.stop()
    result["sec"] = round(time.monotonic() - begin, 1)
    return result
