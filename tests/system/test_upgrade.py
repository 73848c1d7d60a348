# SPDX-License-Identifier: Apache-2.0
"""The main job: a 4.3 node of any kind becomes a verified 4.4 node."""

import re

import pytest
from kinds import LAYOUTS

from upgrade import (DONE, STATE, STEPS, assert_node_is, backup_trees, event_names, events, exit_status, node_files, retained, start, status, tree)


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
        assert len(e["EMQX_UPGRADE_ID"].split()[0]) == 32 and e["EMQX_UPGRADE_TO"] == "4.4.0" and len(e["MESSAGE_ID"]) == 32

    ready = events(node, "node-ready")[0]
    assert 0 < int(ready["EMQX_UPGRADE_DOWNTIME_USEC"]) < 60_000_000
    # Whoever reads how long it was can see how good the prediction was.
    for e in (ready, events(node, "upgrade-done")[0]):
        assert 0.1 < int(e["EMQX_UPGRADE_PREDICTED_USEC"]) / int(e["EMQX_UPGRADE_DOWNTIME_USEC"]) < 10

    # Everything, the package manager's own lines too, stands under the main unit; all of it has the upgrade's id.
    said = {"deb": "Setting up emqx (4.4.0)", "rpm": "install: done", "zip": "install: done"}[upgraded.kind]
    assert said in node.run("journalctl -u emqx-upgrade@4.4.0 -o cat --no-pager").stdout
    assert said in node.run(f"journalctl EMQX_UPGRADE_ID={ready['EMQX_UPGRADE_ID']} -o cat --no-pager").stdout
    assert "man:emqx-upgrade" in node.run("journalctl -x -u emqx-upgrade@4.4.0 --no-pager").stdout


def test_node_does_not_wait_for_a_reload(upgraded):
    """The scripts of a .deb have seen to it that systemd knows the unit, and that of a zip does not change. Before 250 it
    does not say when it has read units, so it is always asked to."""
    entries = upgraded.node.journal()
    (begin,) = [i for i, e in enumerate(entries) if (e.get("EMQX_UPGRADE_EVENT"), e.get("EMQX_UPGRADE_STEP")) == ("step-begun", "start")]
    (ready,) = [i for i, e in enumerate(entries) if e.get("EMQX_UPGRADE_EVENT") == "node-ready"]
    reloads = [e for e in entries[begin:ready] if e.get("_PID") == "1" and e["MESSAGE"].startswith("Reloading")]
    old = int(upgraded.node.run("systemctl --version").stdout.split()[1]) < 250
    assert not reloads or upgraded.kind == "rpm" or old, reloads


ACCEPTANCE = ["vm", "booted", "broker-version", "application", "tables", "cluster", "listeners", "plugins", "modules",
              "rules", "resources", "alarms", "management", "mqtt", "retained", "log", "unit", "same-vm"]


def test_acceptance_asks_everything_and_says_so(upgraded):
    node = upgraded.node
    said = {e["EMQX_UPGRADE_CHECK"]: e["MESSAGE"] for e in events(node, "check-passed") if e["EMQX_UPGRADE_STEP"] == "verify"}
    assert list(said) == ACCEPTANCE
    assert "comes back" in said["mqtt"] and "of 3 retained messages from before 3 are there, 3 as they were" in said["retained"]
    assert not any("not compared" in text for text in said.values()), said


def test_baseline_is_in_the_plan(upgraded):
    baseline = status(upgraded.node)["plan"]["baseline"]
    assert "mqtt:tcp:external 0.0.0.0:1883" in baseline["listeners"] and "http:management 8081" in baseline["listeners"]
    assert "emqx_retainer" in baseline["plugins"] and "emqx_telemetry" not in baseline["plugins"]
    assert baseline["modules"] == ["emqx_mod_acl_internal", "emqx_mod_presence"]
    assert baseline["retained"] == upgraded.node.n_retained and "not_asked" not in baseline
    (found,) = [e["MESSAGE"] for e in events(upgraded.node, "check-passed") if e["EMQX_UPGRADE_CHECK"] == "baseline"]
    assert "2 modules" in found and "21 retained messages" in found


def test_backup_is_what_the_node_had(upgraded):
    node = upgraded.node
    (backup,) = node.run("ls /var/lib/emqx-upgrade/backups").stdout.split()
    assert not node.exists(f"{STATE}/backups/{backup}/tree") and len(events(node, "backup-archived")) == 1
    saved = backup_trees(node, backup)
    assert tree(node, f"{saved}/etc", without=()) == upgraded.etc
    assert node.run(f"stat -c %U {saved}/data/rules").stdout.split() == ["emqx"]
    assert "user:daemon:r--" in node.run(f"getfacl -cp {saved}/data/rules/resource:1/key.pem").stdout
    assert node.run(f"getfattr --only-values -n user.note {saved}/data/rules/resource:1").stdout == "kept"
    assert node.run(f"stat -c %a /var/lib/emqx-upgrade /var/lib/emqx-upgrade/backups/{backup}").stdout.split() == ["700", "700"]


def test_status_tells_what_was_done(upgraded):
    node, told = upgraded.node, status(upgraded.node)
    assert told["result"] == "done" and told["plan"]["from"] == "4.3.12" and told["plan"]["to"] == "4.4.0"
    assert told["percent"] == 100 and told["downtime_usec"] > 0 and told["predicted_downtime_usec"] > 0
    assert [(s["name"], s["state"]) for s in told["steps"]] == [(step, "done") for step in STEPS]
    checks = {(c["step"], c["name"]): c for c in told["plan"]["checks"]}
    for made in ("inspect", "installation"), ("inspect", "configuration"), ("verify", "mqtt"):
        assert checks[made]["outcome"] in ("passed", "warned") and checks[made]["text"]
    assert "done" in node.run("emqx-upgrade status", user="nobody").stdout
    assert told["plan"]["id"] in node.run("emqx-upgrade history").stdout


def test_hot_patches_are_not_carried_but_kept(upgraded):
    node = upgraded.node
    assert not node.exists(f"{node.data}/patches/emqx_broker.beam")
    assert node.exists(f"{node.data}/patches")
    assert any("emqx_broker.beam" in e["MESSAGE"] for e in events(node, "not-carried"))
    assert node.exists(f"{backup_trees(node, status(node)['plan']['id'])}/data/patches/emqx_broker.beam")


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
    assert re.search(r"\nExpected time down: [\d.]+ s\n  stop +[\d.]+ m?s +\w", plan.stdout), plan.stdout
    assert re.search(r"\n  start +[\d.]+ m?s +as its last start, says systemd\n", plan.stdout), plan.stdout
    assert "listeners, " in plan.stdout and "comes back" in plan.stdout
    assert node_files(node) == before
    assert node.unit("emqx.service")["MainPID"] == pid
    assert not node.exists("/var/lib/emqx-upgrade/transaction")


def test_systemctl_status_shows_step_percentage_and_how_long_copying_takes(node):
    node.run(f"truncate -s 6G {node.data}/large && chown emqx: {node.data}/large")  # is digested, and takes no room
    start(node, block=False)
    texts, progress = set(), []

    def over():
        text = node.unit("emqx-upgrade@4.4.0.service").get("StatusText", "")
        texts.add(text)
        if "Copying ahead" in text:
            progress.append(status(node).get("progress", {}))
        return "upgrade-done" in event_names(node)
    node.wait_until(over, timeout=240, every=0.02)
    assert any(re.match(r"^(start|install|verify|backup|stop).*\(\d+ %\)$", text) for text in texts), texts

    copying = r"^stage: Copying ahead: \d+ % of 6\.0 GiB, [\d.]+ [KMG]iB/s, \d+ s left \(\d+ %\)$"
    assert any(re.match(copying, text) for text in texts), texts
    assert any({"bytes_done", "bytes_total", "bytes_per_sec", "left_usec"} == set(p) for p in progress), progress
    told = [e for e in events(node, "step-progress") if "EMQX_UPGRADE_BYTES_TOTAL" in e]
    assert told and all(int(e["EMQX_UPGRADE_BYTES_DONE"]) <= int(e["EMQX_UPGRADE_BYTES_TOTAL"]) for e in told)
    times = [int(e["__REALTIME_TIMESTAMP"]) for e in told]
    assert all(b - a > 900_000 for a, b in zip(times, times[1:]))


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
