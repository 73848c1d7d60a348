# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong with the new version, the old one is back, with its configuration and data."""

import re

import pytest

from upgrade import (DONE, REFUSED, ROLLED_BACK, STATE, STUCK, assert_node_is, event_names, events, exit_status, node_files,
                     retained, start, status, wait_for_end, wait_until_it_serves)


def assert_back(m, before, messages):
    assert_node_is(m, "4.3.12")
    assert node_files(m) == before
    assert {**messages, **retained(m, m.n_retained)} == messages


@pytest.mark.parametrize("variant, cause", [
    ("4.4.0-never-ready", "was not ready within"),
    ("4.4.0-no-start", "4.4.0 cannot start|processes ended while"),
    ("4.4.0-rejects-conf", "You've tried to set"),
    ("4.4.0-mute", "is not well"),
])
def test_bad_new_version_leads_back(kind, node_factory, variant, cause):
    m = node_factory(target=variant)
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf",
            "[Upgrade]\nStartTimeoutSec=10s\nVerifyTimeoutSec=8s\nRequireAcceptedConfiguration=no\n", mode=0o644)
    before, messages = node_files(m), retained(m, m.n_retained)

    assert start(m).returncode != 0
    assert exit_status(m) == ROLLED_BACK
    assert_back(m, before, messages)

    names = event_names(m)
    assert names[-1] == "rollback-done" and names.count("upgrade-failed") == 1
    failed = events(m, "upgrade-failed")[0]
    assert re.search(cause, failed["EMQX_UPGRADE_ERROR"]), failed["EMQX_UPGRADE_ERROR"]
    told = status(m)
    assert told["result"] == "rolled-back" and told["cause"] == failed["EMQX_UPGRADE_ERROR"]
    # What 4.4 wrote is kept beside, and the backup stays.
    assert m.exists(f"{STATE}/backups/{told['plan']['id']}/etc.manifest")


@pytest.mark.parametrize("kind, cause", [("deb", "post-installation script|error exit status"), ("rpm", "scriptlet failed|%pre")])
def test_bad_package_leads_back(kind, node_factory, cause):
    m = node_factory(target="4.4.0-bad-postinst")
    before, messages = node_files(m), retained(m, m.n_retained)

    assert start(m).returncode != 0
    assert exit_status(m) == ROLLED_BACK
    assert_back(m, before, messages)
    assert re.search(cause, events(m, "upgrade-failed")[0]["EMQX_UPGRADE_ERROR"])


def test_failed_start_is_noticed_long_before_the_time_out(node_factory):
    m = node_factory(target="4.4.0-rejects-conf")
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nRequireAcceptedConfiguration=no\n", mode=0o644)

    assert start(m).returncode != 0
    (failed,) = [e for e in events(m, "node-failing")]
    (begun,) = [e for e in events(m, "step-begun") if e["EMQX_UPGRADE_STEP"] == "start"]
    assert (int(failed["__REALTIME_TIMESTAMP"]) - int(begun["__REALTIME_TIMESTAMP"])) < 10_000_000


def test_failed_start_in_the_foreground_is_noticed_too(node_factory):
    m = node_factory(target="4.4.0-no-start")
    m.write("/etc/systemd/system/emqx.service.d/mine.conf",
            "[Service]\nType=simple\nExecStart=\nExecStart=/usr/bin/emqx foreground\n", mode=0o644)
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nStartTimeoutSec=60s\n", mode=0o644)
    m.run("systemctl daemon-reload; systemctl restart emqx")
    wait_until_it_serves(m)

    assert start(m).returncode != 0
    assert exit_status(m) == ROLLED_BACK
    assert "processes ended while" in events(m, "node-failing")[0]["MESSAGE"]
    assert_node_is(m, "4.3.12")


def test_next_attempt_after_a_failure_works(kind, node_factory):
    m = node_factory(target="4.4.0-no-start")
    assert start(m).returncode != 0
    assert_node_is(m, "4.3.12")

    m.run(f"rm {STATE}/packages/*4.4.0*")
    m.push_package("4.4.0")
    assert start(m).returncode == 0
    assert_node_is(m, "4.4.0")


def test_way_back_that_fails_waits_for_a_person_and_loses_nothing(node_factory):
    m = node_factory(target="4.4.0-no-start")
    before, messages = node_files(m), retained(m, m.n_retained)
    start(m, block=False)
    m.wait_until(lambda: m.exists(f"{STATE}/hold") and events(m, "node-stopped"), timeout=60, every=0.02)
    m.run(f"mv {STATE}/backups/*/packages/*4.3.12* /root/")
    m.wait_until(lambda: exit_status(m) == STUCK, timeout=120)

    told = status(m)
    assert (told["direction"], told["back_cause_step"]) == ("stuck", "remove") and told["cause"] != told["back_cause"]
    (failed,) = events(m, "rollback-failed")
    for said in ("no version of EMQX is installed", f"{STATE}/backups/ID/tree", f"ID is {told['plan']['id']}", f"{STATE}/hold",
                 "install the old version again, then restore configuration and data from the backup"):
        assert said in failed["MESSAGE"]
    assert start(m).returncode != 0 and exit_status(m) == STUCK  # only an operator goes on from here

    m.run(f"mv /root/*4.3.12* {STATE}/backups/*/packages/")
    assert m.run("systemctl start emqx-upgrade-rollback@last", check=False, timeout=120).returncode == 0
    assert_back(m, before, messages)
    assert status(m)["cause"] == told["cause"]


def test_rollback_by_hand(kind, node):
    before, messages = node_files(node), retained(node, node.n_retained)
    assert start(node).returncode == 0
    (backup,) = node.run(f"ls {STATE}/backups").stdout.split()
    assert node.exists(f"{STATE}/backups/{backup}/backup.tar.zst") and not node.exists(f"{STATE}/backups/{backup}/tree")
    node.run("mosquitto_pub -q 1 -r -t written/by/44 -m new")
    node.run(f"echo '# by the operator, on 4.4' >> {node.etc}/acl.conf")

    # An attempt that is refused is no upgrade to go back from.
    assert start(node, "4.4.11").returncode != 0 and exit_status(node, "4.4.11") == REFUSED
    assert "@@" in node.run("emqx-upgrade diff").stdout
    if kind != "zip":  # the package that it takes to go back is looked at before the new version is stopped
        package = node.run(f"echo {STATE}/backups/{backup}/packages/*4.3.12*").stdout.strip()
        node.run(f"cp -a {package} /root/package; echo >>{package}")
        assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode != 0
        assert "has another digest than it had" in events(node, "upgrade-refused")[-1]["MESSAGE"]
        assert_node_is(node, "4.4.0")
        node.run(f"mv /root/package {package}")
    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_back(node, before, messages)
    assert backup == status(node)["plan"]["id"]
    undone = [e["EMQX_UPGRADE_STEP"] for e in events(node, "step-undo-begun")]
    assert undone[:3] == ["archive", "undrain", "start"]  # the backup is extracted while the new version still serves
    kept = node.run(f"cat {STATE}/backups/{backup}/after/etc/acl.conf").stdout
    assert "by the operator, on 4.4" in kept
    assert exit_status(node) == DONE

    # Once more, as by a conductor that was killed at its very end, with an old status.
    node.run("sed -i s/rolled-back/interrupted/ /run/emqx-upgrade/status.json")
    assert node.run("systemctl start emqx-upgrade-rollback@last", check=False).returncode == 0
    assert event_names(node)[-1] == "nothing-to-do" and status(node)["result"] == "rolled-back"


LOCK = "/var/lib/dpkg/lock-frontend"


def test_way_back_waits_for_the_package_manager(node_factory):
    """By then the node is down, so it is waited for longer than once."""
    m = node_factory(target="4.4.0-no-start")
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nLockTimeoutSec=2s\n", mode=0o644)
    before, messages = node_files(m), retained(m, m.n_retained)
    start(m, block=False)
    m.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "start" for e in events(m, "step-begun")), timeout=60, every=0.02)
    holder = m.hold_lock(LOCK)
    m.wait_until(lambda: "step-undo-failed" in event_names(m), timeout=60)
    holder.kill()
    wait_for_end(m)
    assert "did not release the lock" in events(m, "step-undo-failed")[0]["MESSAGE"]
    assert exit_status(m) == ROLLED_BACK
    assert_back(m, before, messages)


def test_asked_for_it_is_refused_while_the_package_manager_is_busy(node):
    """Before the new version is stopped."""
    node.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nLockTimeoutSec=2s\n", mode=0o644)
    before, messages = node_files(node), retained(node, node.n_retained)
    assert start(node).returncode == 0
    holder = node.hold_lock(LOCK)
    n_stops = event_names(node).count("node-stopped")
    assert node.run(["emqx-upgrade", "rollback"], check=False).returncode != 0
    assert int(node.unit("emqx-upgrade-rollback@last.service")["ExecMainStatus"]) == REFUSED
    assert event_names(node)[-1] == "upgrade-refused" and event_names(node).count("node-stopped") == n_stops
    assert_node_is(node, "4.4.0")
    holder.kill()
    assert node.run(["emqx-upgrade", "rollback"], check=False, timeout=120).returncode == 0
    assert_back(node, before, messages)


def test_stop_before_the_point_of_no_return_leads_back(node):
    before, messages = node_files(node), retained(node, node.n_retained)
    # Another program has the lock of the package manager: the upgrade waits for it, with the node serving.
    holder = node.hold_lock(LOCK)
    start(node, block=False)
    node.wait_until(lambda: "waiting" in event_names(node), timeout=30)
    assert node.run("systemctl stop emqx-upgrade@4.4.0", check=False, timeout=60).returncode == 0
    holder.kill()
    assert_back(node, before, messages)
    assert "stop-requested" in event_names(node)
    assert events(node)[-1]["EMQX_UPGRADE_EVENT"] == "upgrade-refused"
    assert "Stopped by" in events(node)[-1]["EMQX_UPGRADE_ERROR"]
