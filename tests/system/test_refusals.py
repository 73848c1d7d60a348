# SPDX-License-Identifier: Apache-2.0
"""Bad input is refused with a message that names the thing, the documented exit status, and an untouched node."""

import subprocess

import pytest

from upgrade import PACKAGES, REFUSED, STATE, assert_nothing_is_left, events, exit_status, node_files, start


@pytest.fixture(scope="module")
def shared(shared_node):
    """One node for all refusals: none of them may touch it."""
    return shared_node


@pytest.fixture
def untouched(shared):
    before = node_files(shared), shared.unit("emqx.service")["MainPID"], shared.unit("emqx.service")["InvocationID"]
    shared.run("systemctl reset-failed")
    yield shared
    assert (node_files(shared), shared.unit("emqx.service")["MainPID"], shared.unit("emqx.service")["InvocationID"]) == before
    assert_nothing_is_left(shared)
    assert shared.run("ls /var/lib/emqx-upgrade/backups", check=False).stdout == ""


def refused(m, version="4.4.0", says=()):
    cursor = m.journal_cursor()
    assert start(m, version).returncode != 0
    told = [e for e in m.journal(since=cursor) if e.get("EMQX_UPGRADE_EVENT") in ("upgrade-refused", "configuration-error")]
    assert told, m.run("journalctl -n 30 --no-pager").stdout
    for text in says:
        assert text in told[-1]["MESSAGE"], told[-1]["MESSAGE"]
    assert "othing was touched" in told[-1]["MESSAGE"]
    assert exit_status(m, version) == REFUSED


@pytest.mark.parametrize("version", ["4.4", "4.4.0;reboot", "latest", "4.4.0-rc.1", "v4.4.0", "04.4.0", "4.4.0.1", "9" * 150])
def test_instance_that_is_no_version(untouched, version):
    escaped = untouched.run(["systemd-escape", version]).stdout.strip()
    refused(untouched, escaped, says=["is not a version"])


@pytest.mark.parametrize("version, says", [
    ("4.3.11", "is lower than 4.3.12"), ("5.0.0", "no rolling upgrade"), ("4.5.0", "no rolling upgrade"),
    ("4.4.19", "has no package of emqx 4.4.19"), ("4.3.22", "no rolling upgrade")])
def test_version_that_cannot_be_the_target(untouched, version, says):
    refused(untouched, version, says=[says])


def test_node_that_ought_to_have_peers(untouched):
    assert "emqx@127.0.0.1 is in no cluster" in untouched.run("emqx-upgrade plan 4.4.0").stdout
    untouched.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/peers.conf", "[Cluster]\nMinPeers=1\n")
    refused(untouched, says=["0 other nodes run and can take the load, MinPeers=1 asks for more"])
    untouched.run("rm /etc/emqx-upgrade/emqx-upgrade.conf.d/peers.conf")


def with_target(m, script):
    """Runs script on a copy of the 4.4.0 package, undone afterwards."""
    m.run(f"mkdir -p /root/aside && mv {PACKAGES}/*4.4.0* /root/aside/ && cd {PACKAGES} && {script}")


@pytest.fixture
def target(untouched):
    yield untouched
    untouched.run(f"rm -rf {PACKAGES}/*4.4.0* {PACKAGES}/x.* && mv /root/aside/* {PACKAGES}/ && rmdir /root/aside")


@pytest.mark.parametrize("script, says", [
    ("true", "has no package of emqx 4.4.0"),
    ("cp /root/aside/*.deb x.deb && truncate -s -5000 x.deb && sha256sum x.deb >x.deb.sha256", "cut off or damaged"),
    ("cp /root/aside/*.deb x.deb", "no checksum beside it"),
    ("cp /root/aside/*.deb x.deb && sha256sum /dev/null >x.deb.sha256", "does not match its checksum"),
    ("cp /root/aside/*.deb x.deb && echo hello >x.deb.sha256", "is no SHA-256 checksum"),
    ("cp /root/aside/*.deb x.deb && cp x.deb x.2.deb && sha256sum x.deb >x.deb.sha256", "are both emqx 4.4.0"),
    ("printf '!<arch>\\n' >x.deb", "unusable"),
    ("mkfifo x.deb", "not a regular file"),
])
def test_package_that_is_not_right(target, script, says):
    with_target(target, script)
    refused(target, says=[says])


@pytest.mark.parametrize("variant, says", [
    ("4.4.0-arm64", "for arm64"), ("4.4.0-depends", "libnosuch1"), ("ee-4.4.0", "emqx-ee 4.4.0")])
def test_package_of_another_kind(target, variant, says):
    with_target(target, "true")
    target.push_package(variant)
    refused(target, says=[says])


def test_no_package_of_the_old_version(untouched):
    untouched.run(f"mkdir /root/old && mv {PACKAGES}/*4.3.12* /root/old/")
    refused(untouched, says=["There is no way back"])
    untouched.run(f"mv /root/old/* {PACKAGES}/ && rmdir /root/old")


@pytest.mark.parametrize("text, says", [
    ("[Upgrade]\nAttempts=many\n", "bad.conf:2: Attempts=many: expected a number from 1 to 100"),
    ("[Upgrade]\nAttemps=3\n", "no such key"),
    ("StartTimeoutSec=1min\n", "expected a section"),
])
def test_configuration_that_is_wrong(untouched, text, says):
    path = "/etc/emqx-upgrade/emqx-upgrade.conf.d/bad.conf"
    untouched.write(path, text, mode=0o644)
    refused(untouched, says=[says])
    untouched.run(f"rm {path}")


def test_another_upgrade_is_running(untouched):
    holder = untouched.hold_lock(f"{STATE}/lock")
    refused(untouched, says=["Another upgrade is running"])
    holder.kill()


def test_lock_of_the_package_manager_is_waited_for_and_named(untouched):
    path = "/etc/emqx-upgrade/emqx-upgrade.conf.d/lock.conf"
    untouched.write(path, "[Upgrade]\nLockTimeoutSec=2s\n", mode=0o644)
    cursor = untouched.journal_cursor()
    holder = untouched.hold_lock("/var/lib/dpkg/lock-frontend")
    assert start(untouched).returncode != 0
    holder.kill()
    untouched.run(f"rm {path}")
    told = [e for e in untouched.journal(since=cursor) if "EMQX_UPGRADE_EVENT" in e]
    waiting = [e for e in told if e["EMQX_UPGRADE_EVENT"] == "waiting"]
    assert waiting and "python3" in waiting[0]["MESSAGE"] or "flock" in waiting[0]["MESSAGE"]
    assert "did not release the lock" in told[-1]["EMQX_UPGRADE_ERROR"]


@pytest.mark.parametrize("attribute, path, says", [
    ("i", "/etc/emqx/acl.conf", "immutable"), ("a", "/usr/lib/emqx/bin", "append-only"), ("a", "/var/log/emqx/erlang.log.1", "append-only")])
def test_file_that_the_package_could_not_change(untouched, attribute, path, says):
    subprocess.run(["chattr", f"+{attribute}", untouched.path(path)], check=True)
    try:
        refused(untouched, says=[f"{path}: is {says}"])
    finally:
        subprocess.run(["chattr", f"-{attribute}", untouched.path(path)], check=True)


def test_read_only_mount_in_what_the_package_changes(untouched):
    m = untouched
    m.run("mkdir /etc/emqx/ro && mount --bind /etc/emqx/ro /etc/emqx/ro && mount -o remount,bind,ro /etc/emqx/ro")
    try:
        refused(m, says=["/etc/emqx/ro is mounted read-only"])
    finally:
        m.run("umount /etc/emqx/ro && rmdir /etc/emqx/ro")


def test_masked_unit(untouched):
    untouched.run("systemctl mask --runtime emqx")
    refused(untouched, says=["emqx.service is masked"])
    untouched.run("systemctl unmask --runtime emqx")


# Those that need another node.

def test_target_that_lacks_fixes(node_factory):
    m = node_factory(version="4.3.22")
    refused(m, says=["4.4.0 lacks fixes that 4.3.22 has", "Take 4.4.11 or later"])
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/old.conf", "[Upgrade]\nAllowLostFixes=yes\n")
    plan = m.run("emqx-upgrade plan 4.4.0", check=False).stdout
    assert "WARNING   version          4.4.0 lacks fixes" in plan


def test_no_room_for_the_backup(node_factory):
    m = node_factory(disk="ext4")
    m.fill_disk(STATE, leave_bytes=8 << 20)
    refused(m, says=["MiB for the backup"])
    m.free_disk(STATE)
    assert start(m).returncode == 0


def test_no_room_for_the_record(untouched):
    """Nothing was touched, so that nobody has to make room for the record of that, how far ever it could be written."""
    m, cursor = untouched, untouched.journal_cursor()
    m.run(f"mkdir /run/packages && mount --bind {PACKAGES} /run/packages && mount -t tmpfs -o mode=700,size=64k tmpfs {STATE} && "
          f"mkdir {PACKAGES} && mount --bind /run/packages {PACKAGES}")
    says = set()
    for blocks in range(8, 17):
        m.run(f"rm -rf {STATE}/history; head -c {blocks << 12} /dev/zero >{STATE}/filler")
        refused(m)
        says.add(events(m, "upgrade-refused")[-1]["MESSAGE"])
        assert not m.exists(f"{STATE}/transaction")
    assert all("room" in text for text in says), says
    assert any("Make the state directory writable" in text for text in says), says  # not the first record, but a later one
    m.run(f"umount {PACKAGES} {STATE} /run/packages && rmdir /run/packages")
    assert not [e for e in m.journal(since=cursor) if "no room" in e["MESSAGE"]]


def test_no_node_installed(machine_factory, emqx_upgrade_deb):
    m = machine_factory()
    m.install(emqx_upgrade_deb)
    refused(m, says=["No EMQX is installed"])


def test_two_editions_installed(node_factory):
    m = node_factory()
    m.push_package("ee-4.3.12", "/root")
    m.run("dpkg --force-overwrite -i /root/*.deb", check=False)
    refused(m, says=["Two editions of EMQX"])


def test_node_is_not_running(node_factory):
    m = node_factory()
    m.run("systemctl stop emqx; systemctl reset-failed emqx")
    refused(m, says=["The node is not running"])


def test_node_runs_outside_of_its_unit(node_factory):
    m = node_factory()
    m.run("systemctl stop emqx; systemctl reset-failed emqx")
    m.run("su - emqx -s /bin/bash -c 'emqx start'", timeout=60)
    refused(m, says=["runs outside of its unit"])


def test_console_that_stays_open(node_factory):
    """It would keep the node from being down; what is asked of the node meanwhile, as by a monitor, would not."""
    m = node_factory()
    m.run("cp /bin/sleep /usr/lib/emqx/bin/console; setsid /usr/lib/emqx/bin/console 1000 </dev/null >/dev/null 2>&1 &")
    refused(m, says=["(console) runs from the node's files and does not end"])
    m.run("kill $(pidof console); setsid /usr/lib/emqx/bin/console 3 </dev/null >/dev/null 2>&1 &")
    assert start(m).returncode == 0


def test_4_2_is_no_rolling_upgrade(node_factory):
    m = node_factory(version="4.2.14")
    refused(m, says=["no rolling upgrade"])
