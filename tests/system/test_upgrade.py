# SPDX-License-Identifier: Apache-2.0
"""The main job: a 4.3 node of any kind becomes a verified 4.4 node."""

import re

import pytest
from kinds import LAYOUTS

from upgrade import (DONE, STATE, STEPS, assert_node_is, event_names, events, exit_status, node_files, retained, start, status, tree)


class Upgraded:
    """A node that was upgraded, and what was seen of it before: for tests that only look at what came of it."""
    def __init__(self, node):
        self.node, self.kind = node, node.kind
        assert "No upgrade" in node.run("emqx-upgrade status").stdout
        node.run(f"install -o emqx -g emqx -m 644 /dev/null {node.data}/patches/emqx_broker.beam; chmod 0640 {node.etc}/acl.conf")
        self.files, self.messages = node_files(node), retained(node, node.n_retained)
        self.etc = tree(node, node.etc, without=())
        self.result = start(node)


@pytest.fixture(scope="module", params=LAYOUTS)
def upgraded(request, boot_node):
    node = boot_node(kind=request.param)
    try:
        yield Upgraded(node)
    finally:
        node.stop()


def test_node_with_data_is_upgraded(upgraded):
    node = upgraded.node
    assert upgraded.result.returncode == 0, node.run("journalctl -u emqx-upgrade@4.4.0 --no-pager").stdout
    assert exit_status(node) == DONE
    assert_node_is(node, "4.4.0")

    after = node_files(node)
    assert after["etc"] == upgraded.files["etc"]
    carried = {name: entry for name, entry in upgraded.files["data"].items() if not name.startswith("patches/")}
    assert {name: after["data"].get(name) for name in carried} == carried
    assert {**upgraded.messages, **retained(node, node.n_retained)} == upgraded.messages


def test_journal_tells_every_step_in_order(upgraded):
    node = upgraded.node
    done = events(node, "step-done")
    assert tuple(e["EMQX_UPGRADE_STEP"] for e in done) == STEPS
    assert all(int(e["EMQX_UPGRADE_USEC"]) > 0 for e in done)
    names = event_names(node)
    assert names[0] == "upgrade-started" and "upgrade-done" in names
    for e in events(node)[1:names.index("upgrade-done") + 1]:
        assert len(e["EMQX_UPGRADE_ID"]) == 32 and e["EMQX_UPGRADE_TO"] == "4.4.0" and len(e["MESSAGE_ID"]) == 32

    ready = events(node, "node-ready")[0]
    assert 0 < int(ready["EMQX_UPGRADE_DOWNTIME_USEC"]) < 60_000_000

    # Everything, the package manager's own lines too, stands under the main unit; all of it has the upgrade's id.
    said = {"deb": "Setting up emqx (4.4.0)", "rpm": "install: done", "zip": "install: done"}[upgraded.kind]
    assert said in node.run("journalctl -u emqx-upgrade@4.4.0 -o cat --no-pager").stdout
    assert said in node.run(f"journalctl EMQX_UPGRADE_ID={ready['EMQX_UPGRADE_ID']} -o cat --no-pager").stdout
    assert "man:emqx-upgrade" in node.run("journalctl -x -u emqx-upgrade@4.4.0 --no-pager").stdout


def test_backup_is_what_the_node_had(upgraded):
    node = upgraded.node
    (backup,) = node.run("ls /var/lib/emqx-upgrade/backups").stdout.split()
    assert tree(node, f"/var/lib/emqx-upgrade/backups/{backup}/tree/etc", without=()) == upgraded.etc
    assert node.run(f"stat -c %a /var/lib/emqx-upgrade /var/lib/emqx-upgrade/backups/{backup}").stdout.split() == ["700", "700"]


def test_status_tells_what_was_done(upgraded):
    node, told = upgraded.node, status(upgraded.node)
    assert told["result"] == "done" and told["plan"]["from"] == "4.3.12" and told["plan"]["to"] == "4.4.0"
    assert told["percent"] == 100 and told["downtime_usec"] > 0
    assert [(s["name"], s["state"]) for s in told["steps"]] == [(step, "done") for step in STEPS]
    assert "done" in node.run("emqx-upgrade status", user="nobody").stdout
    assert told["plan"]["id"] in node.run("emqx-upgrade history").stdout


def test_hot_patches_are_not_carried_but_kept(upgraded):
    node = upgraded.node
    assert not node.exists(f"{node.data}/patches/emqx_broker.beam")
    assert node.exists(f"{node.data}/patches")
    assert any("emqx_broker.beam" in e["MESSAGE"] for e in events(node, "not-carried"))
    assert node.run("ls /var/lib/emqx-upgrade/backups/*/tree/data/patches/emqx_broker.beam").returncode == 0


def test_modes_that_the_package_widens_are_put_back(upgraded):
    node = upgraded.node
    assert node.run(f"stat -c %a {node.etc}/emqx.conf {node.etc}/acl.conf").stdout.split() == ["600", "640"]


LEFT = "-name '*.dpkg-*' -o -name '*.rpmsave' -o -name '*.rpmnew' -o -name '*.rpmorig'"


def test_what_the_package_manager_leaves_beside_is_kept_and_named(upgraded):
    """Of files that the operator edited and the new package changed, dpkg leaves a .dpkg-dist, rpm an .rpmsave."""
    node, told = upgraded.node, status(upgraded.node)["plan"]
    assert node.run(f"find {node.etc} {node.data} {LEFT}").stdout == ""
    aside = told.get("kept_aside", [])
    on_disk = node.run(f"cd {STATE}/backups/{told['id']} && find defaults -type f -printf '%P\\n'", check=False).stdout.split()
    assert sorted(aside) == sorted(on_disk)
    assert (upgraded.kind == "zip") == (aside == [])
    for path in aside:
        assert path in node.run("emqx-upgrade status").stdout
        name = path.split("/", 1)[1]
        assert any(name in e["MESSAGE"] for e in events(node, "new-default-kept-aside"))


def test_second_start_finds_nothing_to_do(upgraded):
    node = upgraded.node
    pid = node.unit("emqx.service")["MainPID"]
    assert start(node).returncode == 0
    assert event_names(node)[-1] == "nothing-to-do"
    assert node.unit("emqx.service")["MainPID"] == pid
    assert_node_is(node, "4.4.0")


def test_plan_makes_every_check_and_changes_nothing(kind, node):
    before = node_files(node)
    pid = node.unit("emqx.service")["MainPID"]

    plan = node.run("emqx-upgrade plan 4.4.0", check=False)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "REFUSED" not in plan.stdout and "target-package" in plan.stdout and "restore" in plan.stdout
    assert node_files(node) == before
    assert node.unit("emqx.service")["MainPID"] == pid
    assert not node.exists("/var/lib/emqx-upgrade/transaction")


def test_systemctl_status_shows_step_and_percentage(node):
    start(node, block=False)
    texts = set()

    def over():
        text = node.unit("emqx-upgrade@4.4.0.service").get("StatusText", "")
        texts.add(text)
        return "upgrade-done" in event_names(node)
    node.wait_until(over, timeout=60, every=0.02)
    assert any(re.match(r"^(start|install|verify|backup|stop).*\(\d+ %\)$", text) for text in texts), texts


def test_shutdown_is_inhibited_while_packages_are_exchanged(node):
    def inhibitors():
        return node.run("systemd-inhibit --list --no-pager --no-legend").stdout
    assert "emqx-upgrade" not in inhibitors()
    start(node, block=False)
    node.wait_until(lambda: "emqx-upgrade" in inhibitors(), timeout=60, every=0.01)
    node.wait_until(lambda: "upgrade-done" in event_names(node), timeout=60)
    assert "emqx-upgrade" not in inhibitors()


def test_disabled_unit_stays_disabled(kind, node):
    node.run("systemctl disable emqx")
    assert start(node).returncode == 0
    assert node.run("systemctl is-enabled emqx", check=False).stdout.strip() == "disabled"


def test_old_release_of_a_zip_stays_beside(node_factory):
    node = node_factory(kind="zip")
    node.run("echo mine >/opt/emqx/own-file")
    inode = node.run("stat -c %i /opt/emqx").stdout
    assert start(node).returncode == 0

    (beside,) = node.run("ls -d /opt/emqx.emqx-upgrade-*").stdout.split()
    assert node.run(f"stat -c %i {beside}").stdout == inode
    assert node.run(f"cat {beside}/own-file").stdout == "mine\n"
    assert node.run("stat -c '%U %G' /opt/emqx /opt/emqx/bin/emqx").stdout == "emqx emqx\n" * 2

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node.run("stat -c %i /opt/emqx").stdout == inode
    assert node.run("ls -d /opt/emqx*").stdout == "/opt/emqx\n"
