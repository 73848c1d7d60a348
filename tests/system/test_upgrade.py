# SPDX-License-Identifier: Apache-2.0
"""The main job: a 4.3 node that was installed from a .deb becomes a verified 4.4 node."""

import re

from upgrade import (DONE, assert_node_is, event_names, events, exit_status, node_files, retained, start, status, tree)


def test_node_with_data_is_upgraded(node):
    before = node_files(node)
    messages = retained(node, node.n_retained)

    result = start(node)
    assert result.returncode == 0, result.stderr + node.run("journalctl -u emqx-upgrade@4.4.0 --no-pager").stdout
    assert exit_status(node) == DONE
    assert_node_is(node, "4.4.0")

    after = node_files(node)
    assert after["etc"] == before["etc"]
    carried = {name: entry for name, entry in before["data"].items() if not name.startswith("patches/")}
    assert {name: after["data"].get(name) for name in carried} == carried
    assert {**messages, **retained(node, node.n_retained)} == messages


def test_journal_tells_every_step_in_order(node):
    assert start(node).returncode == 0

    done = events(node, "step-done")
    assert [e["EMQX_UPGRADE_STEP"] for e in done] == [
        "inspect", "stage", "drain", "stop", "backup", "remove", "install", "restore", "start", "verify", "undrain", "commit"]
    assert all(int(e["EMQX_UPGRADE_USEC"]) > 0 for e in done)
    names = event_names(node)
    assert names[0] == "upgrade-started" and names[-1] == "upgrade-done"
    for e in events(node)[1:]:
        assert len(e["EMQX_UPGRADE_ID"]) == 32 and e["EMQX_UPGRADE_TO"] == "4.4.0" and len(e["MESSAGE_ID"]) == 32

    ready = events(node, "node-ready")[0]
    assert 0 < int(ready["EMQX_UPGRADE_DOWNTIME_USEC"]) < 60_000_000

    # Everything, dpkg's own lines too, stands under the main unit; all of it has the upgrade's id.
    shown = node.run("journalctl -u emqx-upgrade@4.4.0 -o cat --no-pager").stdout
    assert re.search(r"Setting up emqx \(4\.4\.0\)", shown)
    by_id = node.run(f"journalctl EMQX_UPGRADE_ID={ready['EMQX_UPGRADE_ID']} -o cat --no-pager").stdout
    assert "Setting up emqx" in by_id
    explained = node.run("journalctl -x -u emqx-upgrade@4.4.0 --no-pager").stdout
    assert "man:emqx-upgrade" in explained


def test_backup_is_what_the_node_had(node):
    etc = tree(node, "/etc/emqx", without=())
    assert start(node).returncode == 0

    (backup,) = node.run("ls /var/lib/emqx-upgrade/backups").stdout.split()
    saved = tree(node, f"/var/lib/emqx-upgrade/backups/{backup}/tree/etc", without=())
    assert saved == etc
    assert node.run(f"stat -c %a /var/lib/emqx-upgrade /var/lib/emqx-upgrade/backups/{backup}").stdout.split() == ["700", "700"]


def test_second_start_finds_nothing_to_do(node):
    assert start(node).returncode == 0
    pid = node.unit("emqx.service")["MainPID"]

    assert start(node).returncode == 0
    assert event_names(node)[-1] == "nothing-to-do"
    assert node.unit("emqx.service")["MainPID"] == pid
    assert_node_is(node, "4.4.0")


def test_status_tells_what_was_done(node):
    assert "No upgrade" in node.run("emqx-upgrade status").stdout
    assert start(node).returncode == 0

    told = status(node)
    assert told["result"] == "done" and told["plan"]["from"] == "4.3.12" and told["plan"]["to"] == "4.4.0"
    assert told["percent"] == 100 and told["downtime_usec"] > 0
    assert [s["state"] for s in told["steps"]] == ["done"] * 12
    assert "done" in node.run("emqx-upgrade status", user="nobody").stdout
    assert told["plan"]["id"] in node.run("emqx-upgrade history").stdout


def test_plan_makes_every_check_and_changes_nothing(node):
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


def test_hot_patches_are_not_carried_but_kept(node):
    node.run("install -o emqx -g emqx -m 644 /dev/null /var/lib/emqx/patches/emqx_broker.beam")
    assert start(node).returncode == 0

    assert not node.exists("/var/lib/emqx/patches/emqx_broker.beam")
    assert node.exists("/var/lib/emqx/patches")
    assert any("emqx_broker.beam" in e["MESSAGE"] for e in events(node, "not-carried"))
    assert node.run("ls /var/lib/emqx-upgrade/backups/*/tree/data/patches/emqx_broker.beam").returncode == 0


def test_modes_that_the_postinst_widens_are_put_back(node):
    node.run("chmod 0600 /etc/emqx/emqx.conf && chmod 0640 /etc/emqx/acl.conf")
    assert start(node).returncode == 0
    assert node.run("stat -c %a /etc/emqx/emqx.conf /etc/emqx/acl.conf").stdout.split() == ["600", "640"]


def test_disabled_unit_stays_disabled(node):
    node.run("systemctl disable emqx")
    assert start(node).returncode == 0
    assert node.run("systemctl is-enabled emqx", check=False).stdout.strip() == "disabled"


def test_new_defaults_are_kept_aside(node):
    """A conffile that the operator edited and the new package changed leaves a .dpkg-dist."""
    assert start(node).returncode == 0
    assert node.run("find /etc/emqx -name '*.dpkg-*'").stdout == ""
