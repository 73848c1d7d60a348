# SPDX-License-Identifier: Apache-2.0
"""An upgrade that begins because a package was installed; and what else goes on when packages are."""

import subprocess

import pytest

import kinds
from machine.cache import TOP
from upgrade import assert_node_is, event_names, events, start, wait_for_end

HOOK = "emqx-upgrade-hook"

#: Is configured after the bundle, and keeps the package manager busy until an upgrade waits for it.
BUSY_POSTINST = """#!/bin/sh
for i in $(seq 600); do
        [ ! -e /run/waited ] || exit 0
        sleep 0.1
done
exit 1
"""

#: With this system's own /run and /proc in it, as image builders like to have it.
CHROOT = """mount -t tmpfs tmpfs /mnt; cd /mnt
for d in usr etc run proc sys dev; do mkdir $d; mount --rbind /$d $d; done
for d in bin sbin lib lib64; do [ -L /$d ] && ln -s usr/$d $d || { mkdir $d; mount --rbind /$d $d; }; done
exec chroot /mnt "$@"
"""


@pytest.fixture
def bundle(request, node_packages, tmp_path):
    """bundle(kind): a package that carries 4.4.0 and starts the upgrade to it, made by the example."""
    def build(kind):
        package = kinds.package(node_packages, "4.4.0", kind)
        subprocess.run([TOP / "examples/bundle/build", "4.4.0", package, tmp_path], check=True, capture_output=True)
        (made,) = tmp_path.glob(f"*.{kind}")
        return made
    return build


def busy_deb(tmp_path):
    top = tmp_path / "busy"
    (top / "DEBIAN").mkdir(parents=True)
    (top / "DEBIAN/control").write_text("Package: busy\nVersion: 1\nArchitecture: all\nMaintainer: Test <test@example.org>\n"
                                        "Depends: emqx-4.4.0-bundle\nDescription: takes its time\n")
    (top / "DEBIAN/postinst").write_text(BUSY_POSTINST)
    (top / "DEBIAN/postinst").chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", top, tmp_path / "busy.deb"], check=True, capture_output=True)
    return tmp_path / "busy.deb"


def test_apt_installs_a_bundle_and_the_upgrade_waits_until_apt_is_done(node_factory, bundle, tmp_path):
    m = node_factory(target=None)
    m.run("mkdir -p /root/debs")
    for deb in (bundle("deb"), busy_deb(tmp_path)):
        m.push(deb, "/root/debs")
    apt = m.spawn("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/debs/*.deb", stdout=subprocess.PIPE,
                  stderr=subprocess.STDOUT, text=True)
    m.wait_until(lambda: "waiting" in event_names(m), timeout=60)
    assert "apt-get" in events(m, "waiting")[-1]["MESSAGE"]
    assert m.unit("emqx.service")["ActiveState"] == "active"
    m.run("touch /run/waited")
    said = apt.communicate(timeout=60)[0]
    assert apt.returncode == 0, said
    assert "The upgrade to 4.4.0 is queued" in said

    wait_for_end(m)
    assert_node_is(m, "4.4.0")


def test_what_is_installed_is_looked_at_when_dpkg_is_done(machine, emqx_upgrade_deb, node_packages, bundle, tmp_path):
    """While the bundle's script runs, the node's own package is only unpacked. Without a node that runs, what was started is
    refused: which release it would have gone from is what counts here."""
    m = machine
    m.install(emqx_upgrade_deb, kinds.package(node_packages, "4.3.12", "deb"))
    debs = (bundle("deb"), busy_deb(tmp_path), kinds.package(node_packages, "4.3.22", "deb"))
    m.run("mkdir /root/debs")
    for deb in debs:
        m.push(deb, "/root/debs")
    dpkg = m.spawn(f"cd /root/debs && dpkg -i {' '.join(deb.name for deb in debs)}", stdout=subprocess.PIPE,
                   stderr=subprocess.STDOUT, text=True)
    m.wait_until(lambda: set(event_names(m)) & {"waiting", "upgrade-refused"}, timeout=60)
    assert m.run("dpkg-query -W -f '${Status} ${Version}' emqx").stdout == "install ok unpacked 4.3.22"
    m.run("touch /run/waited")
    said = dpkg.communicate(timeout=60)[0]
    assert dpkg.returncode == 0, said

    m.wait_until(lambda: "upgrade-refused" in event_names(m), timeout=60)
    assert "dpkg" in events(m, "waiting")[0]["MESSAGE"]
    told = {e["EMQX_UPGRADE_CHECK"]: e["MESSAGE"] for e in events(m) if e["EMQX_UPGRADE_EVENT"].startswith("check-")}
    assert "emqx 4.3.22 (deb" in told["installation"]
    assert "no package is half installed" in told["package-manager"]
    assert "not running" in told["unit"]


def test_rpm_installs_a_bundle_and_the_upgrade_follows(node_factory, bundle):
    m = node_factory(kind="rpm", target=None)
    m.push(bundle("rpm"), "/root/bundle.rpm")
    installed = m.run("rpm -i /root/bundle.rpm 2>&1")
    assert "The upgrade to 4.4.0 is queued" in installed.stdout
    m.wait_until(lambda: "upgrade-done" in event_names(m), timeout=120)
    wait_for_end(m)
    assert_node_is(m, "4.4.0")


def test_the_hook_starts_nothing_where_nothing_may_start(shared_node):
    m = shared_node

    def ask(command):
        asked = m.run(command)  # which fails where its status is not 0
        assert "No upgrade is started: " in asked.stderr, command
        return asked.stderr

    assert "'4.4.0;reboot' is not a version" in ask(f"{HOOK} '4.4.0;reboot'")
    assert "got 0" in ask(HOOK)
    assert "got 2" in ask(f"{HOOK} 4.4.0 now")
    for bad in ("", "../x", "4.4.0 5", "4..4", ".4", "x" * 4096):
        assert "is not a version" in ask([HOOK, bad])
    assert "SYSTEMD_OFFLINE" in ask(f"SYSTEMD_OFFLINE=1 {HOOK} 4.4.0")
    assert "/target" in ask(f"DPKG_ROOT=/target {HOOK} 4.4.0")
    assert "chroot" in ask(f"unshare -m sh -ec '{CHROOT}' sh {HOOK} 4.4.0")
    m.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
    assert "policy-rc.d" in ask(f"{HOOK} 4.4.0")
    m.run("rm /usr/sbin/policy-rc.d")
    assert event_names(m) == []
    assert "No upgrade is started: " in m.run(f"journalctl -t {HOOK} -o cat").stdout
    assert m.run("systemctl list-units --all --no-legend 'emqx-upgrade@*'").stdout == ""


def test_needrestart_leaves_an_upgrade_and_its_node_alone(node):
    """While an upgrade waits, the C library is replaced beneath it: what needrestart restarts for that is others'."""
    conf = "/etc/needrestart/conf.d/emqx-upgrade.conf"
    units = {"emqx-upgrade@4.4.0.service", "emqx.service"}

    def to_restart():
        said = node.run("NEEDRESTART_UI=NeedRestart::UI::stdio needrestart -l -r l", timeout=120).stdout
        print(said)
        return set(said.split("Services to be restarted:")[1].split("Service restarts being deferred:")[0].split())

    def pids():
        return [node.unit(unit)["MainPID"] for unit in sorted(units)]

    lock = node.hold_lock("/var/lib/dpkg/lock-frontend")
    start(node, block=False)
    node.wait_until(lambda: "waiting" in event_names(node))
    node.run("f=$(readlink -f /lib/x86_64-linux-gnu/libc.so.6); cp -p $f $f.new; mv $f.new $f")
    before = pids()
    node.run(f"mv {conf} /root/")
    assert to_restart() >= units
    node.run(f"mv /root/emqx-upgrade.conf {conf}")
    assert not to_restart() & units
    node.run("needrestart -l -r a", check=False, timeout=120)
    assert pids() == before

    lock.kill()
    wait_for_end(node)
    assert_node_is(node, "4.4.0")
