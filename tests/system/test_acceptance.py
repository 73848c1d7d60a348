# SPDX-License-Identifier: Apache-2.0
"""A new version that starts is not yet one that is well: what it must have of the old one, and for how long."""

import pytest

from upgrade import (DONE, ROLLED_BACK, assert_node_is, events, exit_status, running_version, start, status, wait_for_end,
                     wait_until_it_serves)


def configure(m, lines):
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", f"[Upgrade]\n{lines}\n", mode=0o644)


def passed(m, step):
    return [e["EMQX_UPGRADE_CHECK"] for e in events(m) if e["EMQX_UPGRADE_EVENT"] == "check-passed" and e["EMQX_UPGRADE_STEP"] == step]


def wait_for_step(m, step):
    m.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == step for e in events(m, "step-begun")), timeout=240, every=0.2)


@pytest.mark.parametrize("variant, check, says", [
    ("4.4.0-wrong-version", "broker-version", "The node says that it runs 4.3.12, not 4.4.0"),
    ("4.4.0-unregistered", "application", "does not tell its application"),
    ("4.4.0-stuck-table", "tables", "These tables are not loaded: [emqx_sn_registry]"),
    ("4.4.0-module-missing", "modules", "missing: emqx_mod_presence"),
    ("4.4.0-loses-rules", "rules", "missing: rule:"),
    ("4.4.0-not-running", "management", "/status does not say that emqx is running"),
    ("4.4.0-mute", "mqtt", "no CONNACK came in time"),
    ("4.4.0-loses-drop-in", "unit", "has lost its drop-in /etc/systemd/system/emqx.service.d/mine.conf"),
    ("4.4.0-plugin-missing", "plugins", "missing: emqx_recon"),
    ("4.4.0-listener-missing", "listeners", "missing: mqtt:tcp:internal 127.0.0.1:11883"),
    ("4.4.0-dead-resource", "resources", "alive before and are not now: resource:"),
    ("4.4.0-alarm", "alarms", "not before: high_cpu_usage"),
    ("4.4.0-loses-retained", "retained", "messages from before are lost: '"),
    ("4.4.0-logs-error", "log", "cannot do it"),
])
def test_new_version_that_is_not_well_leads_back(node_factory, variant, check, says):
    m = node_factory(target=variant)
    configure(m, "VerifyTimeoutSec=15s\nLogErrors=fail")
    m.write("/etc/systemd/system/emqx.service.d/mine.conf", "[Service]\nLimitNOFILE=4096\n", mode=0o644)
    m.run("systemctl daemon-reload")
    m.run("emqx_ctl resources create web_hook -c very-secret && emqx_ctl rules create 'SELECT 1'")

    assert start(m).returncode != 0
    assert exit_status(m) == ROLLED_BACK
    (failed,) = events(m, "check-failed")
    assert failed["EMQX_UPGRADE_CHECK"] == check and says in failed["EMQX_UPGRADE_ERROR"], failed
    assert says in status(m)["cause"]
    assert_node_is(m, "4.3.12")
    assert passed(m, "stop")[-1] == "same-vm"  # the old version was asked the same
    warned = [e["MESSAGE"] for e in events(m, "check-warned") if e["EMQX_UPGRADE_STEP"] == "stop"]
    assert [says in text for text in warned] == [True] * (check == "unit"), warned
    assert m.run("grep -r very-secret /var/lib/emqx-upgrade/history /run/emqx-upgrade; journalctl | grep very-secret", check=False).stdout == ""


def test_listener_that_comes_with_a_restart_is_no_failure(node):
    node.run("echo 'listener.tcp.added = 127.0.0.1:2883' >>/etc/emqx/emqx.conf")
    assert start(node).returncode == 0
    warned = {e["EMQX_UPGRADE_CHECK"]: e["MESSAGE"] for e in events(node, "check-warned") if e["EMQX_UPGRADE_STEP"] == "verify"}
    assert "not there before: mqtt:tcp:added 127.0.0.1:2883" in warned["listeners"], warned


def test_listener_that_goes_with_a_restart_leads_back_and_not_into_a_dead_end(node):
    """The old version has lost it too, which is no reason to keep it down."""
    node.run("echo 'listener.tcp.mine = 127.0.0.1:2883' >>/etc/emqx/emqx.conf; systemctl restart emqx", timeout=120)
    node.wait_until(lambda: "tcp:mine" in node.run("emqx_ctl listeners", check=False).stdout, timeout=60, every=1)
    node.run("sed -i '/^listener.tcp.mine/d' /etc/emqx/emqx.conf")
    assert start(node).returncode != 0
    assert exit_status(node) == ROLLED_BACK
    assert "missing: mqtt:tcp:mine" in status(node)["cause"]
    warned = {e["EMQX_UPGRADE_CHECK"]: e["MESSAGE"] for e in events(node, "check-warned") if e["EMQX_UPGRADE_STEP"] == "stop"}
    assert "missing: mqtt:tcp:mine" in warned["listeners"], warned
    assert_node_is(node, "4.3.12")


def test_node_that_dies_in_the_watch_leads_back(node):
    node.write("/etc/emqx-upgrade/hooks.d/note", "#!/bin/sh\n. /usr/lib/emqx/releases/emqx_vars\necho $1 $REL_VSN >>/root/hooks\n",
               mode=0o755)
    configure(node, "WatchSec=10min")
    start(node, block=False)
    wait_for_step(node, "watch")
    node.run("kill -9 $(pgrep -x beam.smp)")
    wait_for_end(node)
    assert exit_status(node) == ROLLED_BACK
    assert status(node)["cause_step"] == "watch" and "4.4.0 is not well" in status(node)["cause"]
    assert_node_is(node, "4.3.12")
    # Out of the load balancer again before the old version comes back, and into it with that.
    hooks = [line.split()[0] for line in node.read("/root/hooks").splitlines()]
    assert hooks == ["drain", "undrain", "drain", "undrain"]
    assert node.read("/root/hooks").splitlines()[-1] == "undrain 4.3.12"


def test_failure_in_the_watch_can_be_left_to_a_person(node):
    configure(node, "WatchSec=10min\nWatchFailure=report\nLogErrors=fail")
    start(node, block=False)
    wait_for_step(node, "watch")
    node.run(["emqx", "eval", 'logger:error("[Rule Engine] cannot do it any more").'], user="emqx", env={"HOME": node.data})
    wait_for_end(node)
    assert exit_status(node) == DONE
    (told,) = events(node, "watch-failed")
    assert "cannot do it any more" in told["EMQX_UPGRADE_ERROR"] and told["PRIORITY"] == "3"
    assert_node_is(node, "4.4.0")


def test_watch_goes_on_after_a_reboot_and_ends_when_asked_to(node):
    configure(node, "WatchSec=10min")
    start(node, block=False)
    wait_for_step(node, "watch")
    node.reboot()
    node.wait_until(lambda: "watching" in node.unit("emqx-upgrade@4.4.0.service").get("StatusText", ""), timeout=120)
    assert node.run("systemctl stop emqx-upgrade@4.4.0", check=False, timeout=120).returncode == 0
    wait_for_end(node)
    assert running_version(node) == "4.4.0"
    assert status(node)["result"] == "done"
    assert "stop-requested" in [e["EMQX_UPGRADE_EVENT"] for e in events(node)]
    assert_node_is(node, "4.4.0")


def test_node_that_cannot_be_asked_is_upgraded_and_says_so(node):
    """Without its management plugin it has no commands, and no /status."""
    node.run(f"sed -i 's/emqx_management, true/emqx_management, false/' {node.data}/loaded_plugins; rm {node.log}/erlang.log.*; "
             "systemctl restart emqx")
    node.wait_until(lambda: "is running now!" in node.run(f"cat {node.log}/erlang.log.*", check=False).stdout, timeout=60)
    assert start(node).returncode == 0, events(node)[-1]
    told = {e["EMQX_UPGRADE_CHECK"]: e["MESSAGE"] for e in events(node) if e["EMQX_UPGRADE_EVENT"].startswith("check-")}
    assert "not to be asked: status, broker, statistics, listeners, plugins, modules" in told["baseline"]
    assert "not compared" in told["plugins"] and "not compared" not in told["tables"] + told["alarms"] + told["mqtt"]


def test_node_without_a_console_log_is_ready_when_it_answers(node):
    """In the foreground of its unit nobody writes erlang.log.N: what the node says is in the journal."""
    node.write("/etc/systemd/system/emqx.service.d/mine.conf",
               "[Service]\nType=simple\nExecStart=\nExecStart=/usr/bin/emqx foreground\n", mode=0o644)
    node.run(f"systemctl stop emqx; rm {node.log}/erlang.log.*; systemctl daemon-reload; systemctl start emqx")
    wait_until_it_serves(node)
    configure(node, "StartTimeoutSec=60s")
    assert start(node).returncode == 0, events(node)[-1]
    assert_node_is(node, "4.4.0")
    assert not node.run(f"ls {node.log}/erlang.log.*", check=False).stdout
