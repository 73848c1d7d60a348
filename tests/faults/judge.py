# SPDX-License-Identifier: Apache-2.0
"""The judge: is this machine, by itself, on one whole version, and is nothing of the upgrade left?

It knows nothing of the program under test but where its state directory is. A machine that went through a fault has to be
like the one before the upgrade, or like one whose upgrade nobody disturbed, file by file: what these two were is asked of
find(1), sha256sum(1), dpkg-query or rpm, systemctl and mosquitto's clients."""

import dataclasses
import json
import re
import time

import upgrade

OLD, NEW = "4.3.12", "4.4.0"

#: Written by the machine itself while it runs, or judged on its own below.
VOLATILE = ("/proc", "/sys", "/dev", "/run", "/lost+found", "/tmp", "/var/tmp", "/var/log", "/var/cache", "/var/lib/systemd", "/faults", "/root",
            "/var/lib/dpkg", "/var/lib/rpm", "/etc/machine-id", "/etc/ld.so.cache", "/usr/lib/sysimage/rpm", upgrade.STATE)

#: Whose content counts, besides the node's own directories; of the rest size and time are enough.
HASHED = ("/etc", "/usr/lib/systemd", "/usr/bin/emqx", "/usr/bin/emqx_ctl", "/opt")

HELPER = "/usr/libexec/emqx-upgrade/emqx-upgrade-helper"
REAL = "/usr/lib/faults"  # of the rig: where the programs are that its shims stand for


@dataclasses.dataclass
class Snapshot:
    files: dict
    package: tuple
    packages: str
    enablement: str
    runtime_units: str  # enablement and masks of others that last are among the files


def _find(m):
    volatile = list(VOLATILE) + [m.log, *(f"{m.data}/{name}" for name in upgrade.RUNTIME), HELPER, REAL]
    # A zip's old version stays beside the new one; what of it the node itself writes is in the backup.
    volatile += [f"{m.root_dir}.emqx-upgrade-*/{name}" for name in ("data", "log")]
    prune = " -o ".join(f"-path '{path}'" for path in volatile)
    out = m.run(rf"find / -xdev \( {prune} \) -prune -o -printf '%p\0%y\0%m\0%u\0%g\0%T@\0%s\0%l\0%n\0'").stdout
    fields = out.split("\0")[:-1]
    files = {}
    for i in range(0, len(fields), 9):
        path, kind, mode, user, group, mtime, size, target, links = fields[i:i + 9]
        path = re.sub(r"\.emqx-upgrade-[0-9a-f]{8}\b", ".emqx-upgrade-ID", path)
        plain = kind == "f"
        files[path] = [kind, mode, user, group, mtime if plain else "", size if plain else "", target, links if plain else "", ""]
    tops = " ".join(f"'{path}'" for path in (*HASHED, m.root_dir, m.etc, m.data))
    sums = m.run(f"find {tops} -xdev -type f -print0 2>/dev/null | sort -zu | xargs -0 -r sha256sum -z", check=False).stdout
    for line in sums.split("\0"):
        digest, _, path = line.partition("  ")
        if path in files:
            files[path][-1] = digest
    return {path: tuple(values) for path, values in files.items()}


def _packages(m):
    if m.kind == "rpm":
        return m.run("rpm -qa --qf '%{NAME}\\n' | sort").stdout
    return m.run("dpkg-query -W -f '${Package} ${Status}\\n'").stdout


def snapshot(m):
    return Snapshot(_find(m), upgrade.package_state(m), _packages(m), m.unit("emqx.service").get("UnitFileState", ""),
                    m.run("cd /run/systemd; find system system.control transient -mindepth 1 -printf '%p %l\\n' 2>/dev/null | sort").stdout)


def _by_the_second(entry):
    return (*entry[:4], entry[4].partition(".")[0], *entry[5:]) if entry else None


def differences(a, b, by_the_second=False):
    """Lines that say how snapshot b is not like a; by_the_second where a disk image that keeps no finer times is compared."""
    lines = []
    for path in sorted(set(a.files) | set(b.files)):
        x, y = a.files.get(path), b.files.get(path)
        if by_the_second:
            x, y = _by_the_second(x), _by_the_second(y)
        if x is None:
            lines.append(f"left over: {path}")
        elif y is None:
            lines.append(f"missing: {path}")
        elif x != y:
            names = ("type", "mode", "owner", "group", "mtime", "size", "target", "links", "content")
            lines.append(f"changed: {path} ({', '.join(f'{n} {p} -> {q}' for n, p, q in zip(names, x, y) if p != q)})")
    for name in ("package", "packages", "enablement", "runtime_units"):
        x, y = getattr(a, name), getattr(b, name)
        if x != y:
            if name in ("packages", "runtime_units"):
                x, y = sorted(set(x.splitlines()) - set(y.splitlines())), sorted(set(y.splitlines()) - set(x.splitlines()))
            lines.append(f"{name}: {x} -> {y}")
    return lines


def settle(m, timeout=240):
    """Waits until the machine has come to rest by itself; what it is then is not asked here. Returns whether it has."""
    quiet_since = None
    asked = time.monotonic()
    deadline = asked + timeout
    while time.monotonic() < deadline:
        if m.exists(f"{upgrade.STATE}/transaction") and time.monotonic() < asked + 2:
            time.sleep(0.1)  # without asking systemd, which has enough to do
            continue
        asked = time.monotonic()
        restarts, _, busy = m.run("systemctl show --value -p NRestarts emqx.service; systemctl list-jobs --no-legend; systemctl list-units "
                                  "--no-legend --all --state=activating,deactivating,reloading,auto-restart 'emqx*'",
                                  check=False).stdout.strip().partition("\n")
        now = time.monotonic()
        if restarts.isdigit() and int(restarts) > 3:
            return False  # a node that dies again and again
        if busy and "No jobs" not in busy:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since > 1.5:  # longer than RestartSec=
            return True
        time.sleep(0.2)
    return False


def _left(m):
    """What an upgrade that is over may not leave, whatever its outcome."""
    losses = []
    for name in ("transaction", "hold", "reserve"):
        if m.exists(f"{upgrade.STATE}/{name}"):
            losses.append(f"left over: {upgrade.STATE}/{name}")
    for command, what in (
            ("ls -d /run/systemd/system/emqx*.d /run/systemd/transient/emqx* /run/systemd/system/emqx* /run/systemd/system.control/emqx* "
             "2>/dev/null", "runtime unit"),
            ("systemctl list-units --all --no-legend --plain 'emqx-upgrade-step-*' | cut -d' ' -f1", "step unit"),
            (f"find {upgrade.STATE} /run/emqx-upgrade \\( -name '.*' -o -name '*.tmp' -o -name '*.part' -o -name '*.gone' -o -name 'judge-*' \\) "
             "-not -path '*/tree/*' -not -path '*/after/*' 2>/dev/null", "temporary file"),
            ("dpkg --audit; find /var/lib/dpkg/updates /var/lib/dpkg/tmp.ci -type f 2>/dev/null", "in dpkg's database"),
            ("find / -xdev \\( -name '*.dpkg-new' -o -name '*.dpkg-tmp' -o -name '*.dpkg-bak' \\) -not -path '/var/lib/emqx-upgrade/*' "
             "-not -path '/proc/*'", "file of dpkg"),
            ("systemd-inhibit --list --no-legend 2>/dev/null | grep -i emqx", "inhibitor"),
            ("fuser /var/lib/emqx-upgrade/lock 2>/dev/null", "lock")):
        found = m.run(command, check=False).stdout.strip()
        if found:
            losses.append(f"left over, {what}: {' '.join(found.split())}")
    return losses


def _backups(m, outcome, old):
    """Every backup is whole, and has its record; that of an upgrade that was done is what the node had."""
    losses, trees = [], {}
    names = m.run(f"ls {upgrade.STATE}/backups 2>/dev/null", check=False).stdout.split()
    for name in names:
        path = f"{upgrade.STATE}/backups/{name}"
        if not m.exists(f"{upgrade.STATE}/history/{name}.json"):
            losses.append(f"backup {name} has no record")
        if not m.exists(f"{path}/tree") and not m.exists(f"{path}/backup.tar.zst"):
            losses.append(f"backup {name} has neither a tree nor an archive")
            continue
        if outcome == NEW and m.exists(f"{path}/tree") and m.exists(f"{path}/backup.tar.zst"):
            losses.append(f"backup {name} has its tree beside its archive")
        try:
            trees[name] = upgrade.backup_trees(m, name)
        except Exception as e:  # noqa: BLE001, a digest that is wrong, or an archive that tar does not read
            losses.append(f"backup {name} cannot be read: {e}")
            continue
        for tree in m.run(f"ls {trees[name]}", check=False).stdout.split():
            if not m.exists(f"{path}/{tree}.manifest"):
                losses.append(f"backup {name} is half-written: {tree} has no manifest")
    if outcome == NEW:
        whole = []
        for path in trees.values():
            saved = upgrade.tree(m, f"{path}/etc", without=()) if m.exists(f"{path}/etc") else {}
            # type, mode, owner, group, …, content
            mine = {path: (v[0], v[1], v[2], v[3], v[6], v[7]) for path, v in saved.items()}
            had = {path[len(m.etc) + 1:]: (v[0], v[1], v[2], v[3], v[6], v[8]) for path, v in old.files.items()
                   if path.startswith(f"{m.etc}/")}
            whole.append(mine == had)
        if not any(whole):
            losses.append("no backup of the old configuration is whole")
    return losses


def _package_files(m):
    """Files of the package that are not as its manager has them; configuration and data are the operator's."""
    if m.kind == "zip":
        return []
    out = m.run("dpkg -V emqx" if m.kind == "deb" else "rpm -V --nomtime emqx", check=False).stdout
    return [f"package: {line}" for line in out.splitlines()
            if not re.match(r"^\S+\s+[cgdl] ", line) and not re.search(rf" ({m.etc}|{m.data}|{m.log}|/run|/var/run)\b", line)]


def _node(m, outcome):
    losses = []
    try:
        m.wait_until(lambda: m.unit("emqx.service")["ActiveState"] == "active", timeout=30)
        m.wait_until(lambda: upgrade.running_version(m), timeout=30)
    except Exception:  # noqa: BLE001, whatever it is, the node does not run
        pass
    unit = m.unit("emqx.service")
    if (unit["ActiveState"], unit["SubState"]) != ("active", "running"):
        losses.append(f"emqx.service is {unit['ActiveState']} ({unit['SubState']}), result {unit['Result']}, "
                      f"condition {unit['ConditionResult']}")
    version = upgrade.running_version(m)
    if version != outcome:
        losses.append(f"the node that runs is {version}, what is installed is {outcome}")
    return losses


def _status(m, outcome):
    told = m.run(["emqx-upgrade", "status", "--json"], check=False)
    try:
        result = json.loads(told.stdout).get("result")
    except ValueError:
        return [f"status tells nothing: {(told.stdout + told.stderr).strip()[:200]}"]
    if told.returncode != 0:
        return [f"status ends with {told.returncode}"]
    wanted = ("done",) if outcome == NEW else ("rolled-back", "refused")
    if outcome == OLD and not m.run(f"ls {upgrade.STATE}/history 2>/dev/null", check=False).stdout:
        wanted = (None, "refused")  # its first record could not be written, or none of its end: nothing was touched
    return [] if result in wanted else [f"status tells {result!r}, the machine is on {outcome}"]


def _history(m):
    """One record, and whole."""
    names = m.run(f"ls {upgrade.STATE}/history 2>/dev/null", check=False).stdout.split()
    losses = ["another upgrade was begun that nobody asked for"] if len(names) > 1 else []
    for name in names:
        try:
            json.loads(m.read(f"{upgrade.STATE}/history/{name}"))
        except ValueError:
            losses.append(f"the record {name} is not whole")
    return losses


def _kept(m, outcome):
    """What the new version wrote before it was taken back is kept beside; rig.py has it write something."""
    started = m.read("/faults/started").split() if m.exists("/faults/started") else []
    if outcome != OLD or NEW not in started:
        return []
    kept = m.run(f"ls {upgrade.STATE}/backups/*/after/*/written-by-{NEW}", check=False)
    return [] if kept.returncode == 0 else [f"what {NEW} has written is not kept"]


def judge(m, old, new, messages):
    """(OLD, NEW or None, [losses]): old and new are snapshots of a machine before and after an upgrade that nobody disturbed."""
    settled = settle(m)
    losses = [] if settled else ["it does not come to rest"]
    state = upgrade.package_state(m)
    outcome = {(upgrade.INSTALLED[m.kind], OLD): OLD, (upgrade.INSTALLED[m.kind], NEW): NEW}.get(state)
    losses += _left(m)
    if outcome is None:
        return None, [*losses, f"no whole version is installed: {state}"]
    losses += _node(m, outcome)
    losses += differences(old if outcome == OLD else new, snapshot(m), m.disk != "overlay")
    losses += _backups(m, outcome, old)
    losses += _kept(m, outcome)
    losses += _history(m)
    losses += _package_files(m)
    losses += _status(m, outcome)
    back = upgrade.retained(m, len(messages))
    if {**messages, **back} != messages or not set(messages) <= set(back):
        losses.append(f"retained messages: {len(set(messages) & set(back))} of {len(messages)} are back")
    return outcome, losses
