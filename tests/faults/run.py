# SPDX-License-Identifier: Apache-2.0
"""One point: an upgrade that is broken there once, and what became of the machine."""

import pathlib
import time

import judge
import upgrade
from machine.machine import MachineError
from rig import stands_still

ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
POWER = {"power": "ext4", "power-xfs": "xfs", "power-btrfs": "btrfs"}
DISKS = {**POWER, "full": "ext4", "read-only": "ext4"}

FROZEN_USEC = 300_000_000
READ_ONLY_SEC = 8


# --- what happens to a machine one of whose programs stands still ---

def _kill_unit(m, point):
    """systemd kills whatever is in the unit, dpkg or rpm and its scripts too."""
    m.run(["systemctl", "kill", "--signal=KILL", _unit_of(m)])


def _unit_of(m):
    lines = m.run(["cat", f"/proc/{_pid(m)}/cgroup"]).stdout.splitlines()
    return next(line for line in lines if line.startswith("0::")).rsplit("/", 1)[1]


def _run_out_of_memory(m, point):
    """The kernel's own killer, by a control group whose limit is below what the process has next.

    Not MemoryMax=: the machine's systemd has no memory controller where the host's is of cgroup v1."""
    group = pathlib.Path("/sys/fs/cgroup/memory") / m.name
    if not group.parent.joinpath("memory.limit_in_bytes").exists():
        raise MachineError("this host has no memory controller of cgroup v1")
    group.mkdir(exist_ok=True)
    group.joinpath("memory.limit_in_bytes").write_text("4096")
    group.joinpath("cgroup.procs").write_text(str(_pid_here(m)))


def _restart_bus(m, point):
    m.run("systemctl kill --signal=KILL dbus.service; systemctl start dbus.service")


def _reexec(m, point):
    m.run(["systemctl", "daemon-reexec"])


def _stop(m, point):
    m.run("systemctl --no-block stop emqx-upgrade@*.service emqx-upgrade-rollback@*.service")


def _reboot(m, point):
    m.reboot(meanwhile=lambda: _go_on(m))


def _poweroff(m, point):
    m.poweroff(meanwhile=lambda: _go_on(m))
    m.boot()


def _fill(m, point):
    """By somebody else, until the upgrade is over."""
    m.fill_disk("/var/lib", leave_bytes=0)


def _read_only(m, point):
    """Its disk, until a person has it checked and boots; before that all comes to rest."""
    m.make_read_only()
    _go_on(m)
    time.sleep(READ_ONLY_SEC)
    m.repair()
    _forget_plans(m)
    m.boot()


#: What befalls the machine while the program stands still behind a call; it then goes on, if it is there.
ACTIONS = {"full": _fill, "unit-kill": _kill_unit, "oom": _run_out_of_memory, "dbus": _restart_bus, "reexec": _reexec,
           "stop": _stop, "reboot": _reboot, "poweroff": _poweroff, "read-only": _read_only}

FAULTS = ("kill", *ERRORS, *POWER, *ACTIONS)

#: Where each is tried; see points.py.
SORTS = {**dict.fromkeys(("kill", *ERRORS), ("call",)), "EIO": ("call", "look"), **dict.fromkeys(POWER, ("event", "moment")),
         **dict.fromkeys(ACTIONS, ("event",)), "full": ("call", "event"), "unit-kill": ("call",), "oom": ("call",)}


def fits(fault, point):
    """systemd has no unit of its own for the conductor's children; what is to be killed is in that of a step. A stop before the
    conductor runs, at boot, takes its start back, as emqx-upgrade@.service(8) says."""
    if fault in ("unit-kill", "oom"):
        return point.key.startswith(("step-", "dpkg-", "rpm-"))
    return fault != "stop" or not point.key.startswith("resume.")


# --- standing still, and going on ---

def _plan(fault, point):
    if fault == "kill":
        action = f"signal=SIGKILL:when={point.n}"
    elif fault in POWER:
        action = f"delay_enter={FROZEN_USEC}:when={point.n}"  # it stands still there until the power goes
    elif fault in ACTIONS:
        action = f"signal=SIGSTOP:when={point.n}"
    else:
        action = f"error={fault}:when={point.n}"
    return f"{point.key} {point.call} {action}\n"


def _trace(m):
    path = m.path("/faults/plan.hit/trace")
    return path.read_text(errors="replace") if path.exists() else ""


def _pid(m):
    return m.read("/faults/plan.hit/pid").strip()


def _pid_here(m):
    """The same process as this host numbers it."""
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            words = next((line.split() for line in status.read_text().splitlines() if line.startswith("NSpid:")), ())
            mine = m.name in status.with_name("cgroup").read_text()
        except OSError:
            continue
        if mine and len(words) > 2 and words[-1] == _pid(m):
            return int(status.parent.name)
    raise MachineError("the process that stands still is gone")


def _go_on(m):
    if m.exists("/faults/plan.hit/pid"):
        m.run(["kill", "-CONT", _pid(m)], check=False)


def _forget_plans(m):
    """What was noted of them may be lost, and they would come about again."""
    for name in ("first", "plan"):
        m.path(f"/faults/{name}").unlink(missing_ok=True)


def _stands_still(m, fault, n):
    """strace prints a call when it begins: the last line without an end is the one that waits."""
    if fault in ACTIONS:
        return stands_still(m, "plan")
    trace = _trace(m)
    return trace and not trace.endswith("\n") and trace.count("\n") - trace.count("\n---") >= n - 1


def _hit(m, fault):
    trace = _trace(m)
    marked = [line for line in trace.splitlines() if "(INJECTED)" in line or "killed by SIGKILL" in line or "DELAYED" in line]
    if fault == "kill" and marked:
        return trace.splitlines()[-2][:200] if len(trace.splitlines()) > 1 else marked[0]
    return marked[0][:200] if marked else ""


def _is_over(m):
    return m.exists(f"{upgrade.STATE}/history") and judge.settle(m, timeout=2)


def _await_point(m, fault, point):
    """The line it stands still at; "" where the upgrade came to its end without."""
    def reached():
        if _stands_still(m, fault, point.n):
            return "yes"
        return "over" if _is_over(m) else None
    if m.wait_until(reached, timeout=240, every=0.05) != "yes":
        return ""
    return [line for line in _trace(m).splitlines() if not line.startswith("---")][-1][:200]


def _await_moment(m, point):
    time.sleep(point.n / 1000)
    return "" if m.exists(f"{upgrade.STATE}/history") and not m.exists(f"{upgrade.STATE}/transaction") else f"{point.n} ms"


def _upgrade(m, rig, fault, point):
    """Runs it with the fault; returns what was hit, "" for nothing."""
    if fault == "kill" or fault in ERRORS:
        rig.start(m)
        return None  # is told by the trace once all is over
    m.run("sync")
    rig.start(m, wait=False)
    hit = _await_moment(m, point) if point.key == "moment" else _await_point(m, fault, point)
    if fault in POWER:
        m.power_cut()
        _forget_plans(m)
        m.boot()
    elif hit:
        ACTIONS[fault](m, point)
        if m.leader:
            _go_on(m)
    return hit


def _removed(group):
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def _clean_up(m, fault):
    if fault == "full":
        judge.settle(m, timeout=30)  # or it waits for room
        if m.path("/var/lib/.filler").exists():
            m.free_disk("/var/lib")
    group = pathlib.Path("/sys/fs/cgroup/memory") / m.name
    if group.exists():
        for pid in group.joinpath("cgroup.procs").read_text().split():
            group.parent.joinpath("cgroup.procs").write_text(pid)
        m.wait_until(lambda: _removed(group), timeout=10)  # what was killed may still be on its way out


def run_point(rig, fault, point, recorded, again=False):
    """A dict for the result file; `losses` is empty where nothing was lost. recorded: see points.py.

    again: a machine that is like it was before serves for the next point too."""
    begin = time.monotonic()
    result = {"kind": rig.kind, "way": rig.way, "fault": fault, **point._asdict(), "hit": "", "outcome": None, "losses": [], "journal": ""}
    m = None
    try:
        m = rig.machine(disk=DISKS.get(fault, "overlay"))
        messages = upgrade.retained(m, m.n_retained)
        m.write("/faults/plan", _plan(fault, point))
        hit = _upgrade(m, rig, fault, point)
        _clean_up(m, fault)
        result["outcome"], result["losses"] = judge.judge(m, recorded.old, recorded.new, messages)
        result["hit"] = _hit(m, fault) if hit is None else hit
        if fault == "full" and rig.way == "there" and point.step != "commit" and \
                any("no room" in e["MESSAGE"] for e in upgrade.events(m, "waiting")):
            result["losses"].append("it waited for room, which is reserved until it turns back, or commits")
        result["journal"] = m.run("journalctl --no-pager -o short-precise -u 'emqx*' -n 400", check=False).stdout
    except MachineError as e:
        result["losses"].append(f"the machine does not answer: {e}")
        if m and m.leader:
            result["journal"] = m.run("journalctl --no-pager -o short-precise -n 400", check=False).stdout
    finally:
        if m and again and m.disk == "overlay" and result["outcome"] == judge.OLD and not result["losses"]:
            rig.give_back(m)
        elif m:
            m.stop()
    result["sec"] = round(time.monotonic() - begin, 1)
    return result
