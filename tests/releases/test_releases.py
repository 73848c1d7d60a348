# SPDX-License-Identifier: Apache-2.0
"""The main job on other releases of Debian, with our package built there: 11 (systemd 247, libarchive 3.4, glibc 2.31) and 13
(systemd 257). EMQX_UPGRADE_TEST_SUITE has all of system/ run on one of them."""

import pytest

from conftest import _boot_node, deb_of, node_packages_of, populated_root_of
from machine.cache import TOP
from machine.machine import Machine
from machine.root import debian
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
