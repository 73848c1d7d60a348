# SPDX-License-Identifier: Apache-2.0
"""The rig: a node whose helper and package manager run under strace, which records what they do, or breaks one call.

In the machine, /faults/plan says "KEY CALL ACTION": what strace does to a call of the run with that key. KEY is what runs, and
its how-manieth run that is: conduct.0, resume.0, step-NAME.0, step-NAME--undo.0, dpkg--install.0, try-dpkg--install.0.
/faults/first is the same, for an upgrade that is interrupted once before it comes to the fault."""

import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import conftest  # noqa: E402
import upgrade  # noqa: E402
from machine.cache import cached, digest, identity  # noqa: E402
from judge import HELPER, REAL  # noqa: E402
from machine.machine import remove_dead_runs  # noqa: E402, F401

MANAGERS = {"deb": "/usr/bin/dpkg", "rpm": "/usr/bin/rpm", "zip": None}

#: strace -D: the program keeps its process id, as NotifyAccess=main wants it.
SHIM = r"""#!/bin/sh
real=%(real)s
[ "$TERM" = dumb ] && exec "$real" "$@"  # the rig and the judge ask something, see machine.py
case "$real" in
*/dpkg | */rpm)
        key=${real##*/}
        for arg; do
                case "$arg" in
                --simulate | --dry-run | --no-act | --test) key="try-$key" ;;
                -[iUevrP] | --install | --remove | --purge | --unpack | --configure | --erase | -iv* | -U*) key="$key$arg"; break ;;
                esac
        done
        ;;
*)
        key=$1
        [ "$1" = step ] && key="step-$2$3"
        ;;
esac
n=0
while [ -e "/faults/log/$key.$n" ] || ! mkdir "/faults/log/$key.$n" 2>/dev/null; do
        [ -e "/faults/log/$key.$n" ] || break  # no room for it
        n=$((n + 1))
done
for plan in /faults/first /faults/plan; do
        if [ -e $plan ] && read -r wanted call action <$plan && [ "$wanted" = "$key.$n" ] && mkdir $plan.hit 2>/dev/null; then
                echo $$ >$plan.hit/pid
                exec strace -D -qq -y -o $plan.hit/trace -e "trace=$call" -e "inject=$call:$action" "$real" "$@"
        fi
done
if [ -e /faults/record ]; then
        exec strace -D -qq -y -ttt -o "/faults/log/$key.$n/trace" -e "trace=$(cat /faults/record)" "$real" "$@"
fi
exec "$real" "$@"
"""

DROP_IN = """[Service]
SystemCallFilter=
NoNewPrivileges=no
ReadWritePaths=/faults
"""


#: Each version makes files in the data of the node, removes one of the other's, and writes into /faults/started that it was started.
WITNESS = r"""#!/bin/sh
version=$(sed -n 's/^REL_VSN=.\(.*\).$/\1/p' %(root)s/releases/emqx_vars | tail -n 1)
[ -e "%(data)s/written-by-$version" ] || touch -d @0 "%(data)s/written-by-$version"
for file in "%(data)s"/only-*; do
        [ "$file" = "%(data)s/only-$version" ] || rm -f "$file"
done
if [ ! -e "%(data)s/only-$version" ]; then
        echo "$version" >"%(data)s/only-$version"
        touch -d @0 "%(data)s/only-$version"
fi
echo "$version" >>/faults/started
sync -f "%(data)s"  # a power cut may take what a node has not synced, and no upgrade brings it back
"""


def stands_still(m, plan):
    """It was stopped behind the call."""
    trace = m.path(f"/faults/{plan}.hit/trace")
    return trace.exists() and "--- stopped by SIGSTOP ---" in trace.read_text(errors="replace")


class Rig:
    """What machines of a campaign are made of; package is a build of ours other than that of the tree,
    helper a program to take in place of the one in it.

    way "there": the upgrade ends well; "back": the new version does not start, so that all of it is undone; "by-hand": a node
    that was upgraded is taken back; "restarted": the conductor was killed while the new version was installed, and systemd has
    started it again; "booted": the machine died in the middle of that, and has booted."""

    TARGETS = {"there": "4.4.0", "back": "4.4.0-no-start", "by-hand": "4.4.0", "restarted": "4.4.0", "booted": "4.4.0"}

    def __init__(self, kind="deb", way="there", package=None, helper=None):
        self.kind, self.way, self.helper = kind, way, helper
        self.lock, self.idle = threading.Lock(), []
        self.first = None  # the Point at which it is interrupted before any fault; points.py chooses it
        self.package = pathlib.Path(package).resolve() if package else conftest.unwrapped(conftest.emqx_upgrade_deb)()
        self.node_packages = conftest.unwrapped(conftest.node_packages)()
        self.root = conftest.unwrapped(conftest.populated_root)(self.package, self.node_packages)("4.3.12", kind)  # before threads begin
        self.unit = "emqx-upgrade@4.4.0.service"
        if way == "by-hand":
            self.root, self.unit = self._upgraded_root(), "emqx-upgrade-rollback@last.service"

    def _boot(self, disk):
        return conftest._boot_node(lambda *_: self.root, self.node_packages, target=self.TARGETS[self.way], kind=self.kind, disk=disk)

    def _upgraded_root(self):
        def make(path):
            m = self._boot("overlay")
            try:
                assert upgrade.start(m).returncode == 0
                m.poweroff()
                for file in m.path("/var/log/journal").rglob("*.journal"):
                    file.unlink()
                path.joinpath("root").mkdir()
                m.save_as_root(path / "root")
            finally:
                m.stop()
        return cached(f"faults-{self.kind}-upgraded", digest(identity(self.root)), make) / "root"

    def machine(self, disk="overlay"):
        """One that is as new: booted, or given back."""
        with self.lock:
            m = self.idle.pop() if disk == "overlay" and self.idle else None
        if m:
            try:
                self._forget(m)
            except BaseException:
                m.stop()
                raise
            return m
        m = self._boot(disk)
        try:
            self._install(m)
        except BaseException:
            m.stop()
            raise
        return m

    def start(self, m, wait=True):
        """Starts the upgrade, and waits for its end, or not. A machine that dies of it first is booted again, wholly or not."""
        if self.first:
            signal = "SIGKILL" if self.way == "restarted" else "SIGSTOP"
            m.write("/faults/first", f"{self.first.key} {self.first.call} signal={signal}:when={self.first.n}\n")
        if self.way != "booted":
            m.run(["systemctl", "start", *([] if wait else ["--no-block"]), self.unit], check=False, timeout=600)
            return
        m.run(["systemctl", "start", "--no-block", self.unit])
        m.wait_until(lambda: stands_still(m, "first"), timeout=120, every=0.05)
        m.kill()
        m.boot(whole=wait)

    def _forget(self, m):
        """What an upgrade leaves on purpose, and what the rig has noted of it."""
        m.run(f"rm -rf {upgrade.STATE}/backups {upgrade.STATE}/history /run/emqx-upgrade/* /faults/*; mkdir -m 777 /faults/log; "
              "systemctl reset-failed; journalctl --rotate --vacuum-time=1s")
        m.run(["runuser", "-u", "emqx", f"{REAL}/witness"])

    def give_back(self, m):
        """The judge has found it as it was before, so that the next point can have it. Not one without the upgrade that it had."""
        if self.way == "by-hand":
            m.stop()
            return
        with self.lock:
            self.idle.append(m)

    def stop(self):
        for m in self.idle:
            m.stop()
        self.idle.clear()

    def _install(self, m):
        m.path("/faults/log").mkdir(parents=True)
        for path in ("/faults", "/faults/log"):
            m.path(path).chmod(0o777)
        for program in filter(None, (HELPER, MANAGERS[self.kind])):
            real = f"{REAL}/{pathlib.Path(program).name}"  # rpm goes by its name
            m.path(real).parent.mkdir(exist_ok=True)
            m.path(program).rename(m.path(real))
            m.write(program, SHIM % {"real": real}, mode=0o755)
        if self.helper:
            m.push(self.helper, f"{REAL}/{pathlib.Path(HELPER).name}")
        for unit in ("emqx-upgrade@", "emqx-upgrade-rollback@", "emqx-upgrade-resume", "emqx-upgrade-step-"):
            m.write(f"/etc/systemd/system/{unit}.service.d/faults.conf", DROP_IN)
        m.write(f"{REAL}/witness", WITNESS % {"root": m.root_dir, "data": m.data}, mode=0o755)
        m.write("/etc/systemd/system/emqx.service.d/witness.conf", f"[Service]\nExecStartPre={REAL}/witness\n")
        m.run(["runuser", "-u", "emqx", f"{REAL}/witness"])  # the one that runs was started without
        # One date for what the rig itself has put there: the judge compares machines.
        m.run(f"touch -d @0 /etc/systemd/system/emqx*.d/*.conf {MANAGERS[self.kind] or ''} && systemctl daemon-reload")
