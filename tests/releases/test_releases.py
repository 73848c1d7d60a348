# SPDX-License-Identifier: Apache-2.0
"""The main job on other releases of Debian, with our package built there: 11 (systemd 247, libarchive 3.4, glibc 2.31) and 13
(systemd 257). EMQX_UPGRADE_TEST_SUITE has all of system/ run on one of them, and the unit tests here."""

import subprocess

import pytest

from conftest import _boot_node, _export, deb_of, node_packages_of, populated_root_of
from machine.cache import TOP
from machine.machine import Machine
from machine.root import HOST, SUITE, builder, debian
from upgrade import assert_node_is, node_files, retained, start

SYSTEMD = {"bullseye": 247, "trixie": 257}


@pytest.fixture(params=SYSTEMD)
def suite(request):
    return request.param


@pytest.fixture
def release_node(suite):
    packages = node_packages_of(suite, "4.3.12", "4.4.0")
    node = _boot_node(populated_root_of(suite, deb_of(suite), packages), packages)
    yield node
    node.stop()


def systemds_warnings(m):
    """What PID 1 has to say against units of ours, such as a setting that it does not know."""
    return [e["MESSAGE"] for e in m.journal("_PID=1", "PRIORITY=4", "PRIORITY=3") if "emqx-upgrade" in e["MESSAGE"]]


def test_upgrade_and_way_back_on_another_release(suite, release_node):
    node = release_node
    assert int(node.run("systemctl --version").stdout.split()[1]) == SYSTEMD[suite]
    before, messages = node_files(node), retained(node, node.n_retained)

    upgraded = start(node)
    assert upgraded.returncode == 0, node.run("journalctl -u emqx-upgrade@4.4.0 --no-pager").stdout
    assert_node_is(node, "4.4.0")
    assert node_files(node)["etc"] == before["etc"]
    assert retained(node, node.n_retained) == messages

    assert node.run("emqx-upgrade rollback", check=False, timeout=240).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node_files(node) == before
    assert retained(node, node.n_retained) == messages
    assert systemds_warnings(node) == []


def test_installed_package_is_in_order_on_another_release(suite):
    with Machine(debian(suite)) as m:
        m.install(deb_of(suite))
        m.push(TOP / "debian/tests/installed", "/root/installed")
        m.run("/root/installed", timeout=120)


# As tests/all has them on this host: with its devices and its kernel, whose file systems they mount.
CHROOT = r"""
for dir in dev proc sys; do mount --rbind /$dir "$0/$dir" || exit; done
mount -t tmpfs tmpfs "$0/run"
exec chroot "$0" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -euc "$1"
"""
CHECK = "cd /root/tree; autoreconf -fi 2>/dev/null; ./configure -q; make -s -j2; make -s -j2 check"

if SUITE != HOST:
    def test_unit_tests_on_another_release():
        m = Machine(builder(SUITE))
        try:
            _export(m.path("/root/tree"))
            checked = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", CHROOT, m.top, CHECK],
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=1200, check=False)
            log = m.path("/root/tree/test-suite.log")
            assert checked.returncode == 0, log.read_text(errors="replace") if log.exists() else checked.stdout + checked.stderr
        finally:
            m.stop()
