# SPDX-License-Identifier: Apache-2.0
"""Interrupted anywhere, the upgrade ends whole without help: in the new version, or in the old one."""

import fcntl

import pytest

from upgrade import (DONE, REFUSED, ROLLED_BACK, STATE, STEPS, assert_node_is, event_names, events, exit_status, node_files, package_state, retained,
                     running_version, start, status, wait_for_end, assert_nothing_is_left)

#: Runs the conductor under strace once, which kills it at its N-th replacement of the record; then never again.
KILLER = """#!/bin/sh
if [ -e /run/emqx-upgrade/killed-once ]; then exec "$@"; fi
: >/run/emqx-upgrade/killed-once
exec strace -qq -o /dev/null -e trace=renameat -P transaction -e inject=renameat:signal=SIGKILL:when=%d "$@"
"""

DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/local/bin/killer /usr/libexec/emqx-upgrade/emqx-upgrade-helper conduct %i
SystemCallFilter=
NoNewPrivileges=no
"""


def assert_whole(m, messages):
    """One version or the other, and everything agrees on it."""
    wait_for_end(m)
    assert_node_is(m, package_state(m)[1])
    assert {**messages, **retained(m, m.n_retained)} == messages


# The record is replaced when it is opened (1), when a step is begun (2, 4, …) and when it is done (3, 5, …). Killed in the
# latter, a step has done its work, and nobody knows; in the former, nothing has happened since the step before.
@pytest.mark.parametrize("kind, step, at", [("deb", s, "done") for s in STEPS] +
                         [("deb", "remove", "begun")] + [(k, s, "done") for k in ("rpm", "zip") for s in ("remove", "install")])
def test_conductor_is_killed(kind, node, step, at):
    save = 2 + 2 * STEPS.index(step) + (at == "done")
    messages = retained(node, node.n_retained)
    node.write("/usr/local/bin/killer", KILLER % save, mode=0o755)
    node.write("/etc/systemd/system/emqx-upgrade@.service.d/kill.conf", DROP_IN, mode=0o644)
    node.run("systemctl daemon-reload")

    assert start(node).returncode != 0  # systemctl says at once that it was killed
    assert_whole(node, messages)
    assert "upgrade-resumed" in event_names(node)
    assert running_version(node) == "4.4.0"


@pytest.mark.parametrize("kind, step", [("deb", "stage"), ("deb", "backup"), ("deb", "install"), ("deb", "start"),
                                        ("rpm", "remove"), ("rpm", "install"), ("zip", "stage"), ("zip", "install")])
def test_machine_is_rebooted(kind, node, step):
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == step for e in events(node, "step-begun")), timeout=60, every=0.02)
    node.reboot()
    assert_whole(node, messages)


def test_machine_is_powered_off_hard(kind, node):
    """Not a power cut with its loss of unsynced data, but everything ends at once."""
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "install" for e in events(node, "step-begun")), timeout=60, every=0.02)
    node.kill()
    node.boot()
    assert_whole(node, messages)


def test_held_node_does_not_start_at_boot(node):
    """The hold is what makes the time between removal and restore safe, whoever asks for a start."""
    node.write("/var/lib/emqx-upgrade/hold", "test")
    node.run("systemctl stop emqx; systemctl reset-failed emqx; systemctl start emqx")
    assert node.unit("emqx.service")["ActiveState"] == "inactive"
    assert node.unit("emqx.service")["ConditionResult"] == "no"
    node.run("rm /var/lib/emqx-upgrade/hold; systemctl start emqx")
    node.wait_until(lambda: running_version(node) == "4.3.12")
    assert_nothing_is_left(node)


def test_conductor_comes_back_while_its_lock_is_held(node):
    """As `emqx-upgrade backups prune` holds it for a moment. An upgrade that is open does not end for that."""
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "install" for e in events(node, "step-begun")), timeout=60, every=0.02)
    with open(node.path(f"{STATE}/lock"), "r+") as lock:
        node.run("systemctl kill --signal=KILL emqx-upgrade@4.4.0")
        fcntl.lockf(lock, fcntl.LOCK_EX)
        node.wait_until(lambda: "interrupted" in event_names(node))
    assert_whole(node, messages)
    assert running_version(node) == "4.4.0"


def test_configuration_is_broken_while_the_node_is_down(node):
    """As configuration management does at any time. What was begun goes on as it was begun, also after a crash."""
    messages = retained(node, node.n_retained)
    node.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/attempts.conf", "[Upgrade]\nAttempts=9\n", mode=0o644)
    start(node, block=False)
    node.wait_until(lambda: "node-stopped" in event_names(node), timeout=60, every=0.02)
    node.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/broken.conf", "[Upgrade]\nNoSuchKey=1\n", mode=0o644)
    node.run("systemctl kill --signal=KILL emqx-upgrade@4.4.0")
    assert_whole(node, messages)
    assert running_version(node) == "4.4.0"
    assert not events(node, "step-failed") and not events(node, "configuration-error")
    assert "Attempts=9" in node.run(f"cat {STATE}/history/*.json").stdout and "settings" not in status(node)["plan"]

    # What begins now is told; mended, it may begin.
    assert node.run("emqx-upgrade rollback", check=False).returncode != 0
    (refusal,) = events(node, "configuration-error")
    assert "broken.conf:2" in refusal["MESSAGE"]
    node.run("rm /etc/emqx-upgrade/emqx-upgrade.conf.d/broken.conf")
    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")


def test_stop_after_the_point_of_no_return_finishes_first(node):
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "install" for e in events(node, "step-begun")), timeout=60, every=0.02)
    assert node.run("systemctl stop emqx-upgrade@4.4.0", check=False, timeout=120).returncode == 0
    assert_whole(node, messages)
    assert running_version(node) == "4.4.0"
    assert "stop-requested" in event_names(node) and event_names(node)[-1] == "upgrade-done"


def test_disk_fills_up_once_the_node_is_down(node_factory):
    """What the way back needs was reserved before, and is given back to it."""
    node = node_factory(disk="ext4", target="4.4.0-no-start")
    before, messages = node_files(node), retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: "node-stopped" in event_names(node), timeout=60, every=0.02)
    assert node.exists(f"{STATE}/reserve")
    node.fill_disk(STATE, leave_bytes=0)
    node.wait_until(lambda: not node.exists(f"{STATE}/transaction"), timeout=120)
    node.free_disk(STATE)

    assert_whole(node, messages)
    assert exit_status(node) == ROLLED_BACK
    assert running_version(node) == "4.3.12"
    assert node_files(node) == before
    assert not node.exists(f"{STATE}/reserve")


def test_disk_fills_up_on_the_way_back(node_factory):
    """What was reserved is given back then, and somebody else takes it."""
    node = node_factory(disk="ext4", target="4.4.0-no-start")
    before, messages = node_files(node), retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: "rollback-started" in event_names(node), timeout=90, every=0.02)
    node.fill_disk(STATE, leave_bytes=0)
    node.wait_until(lambda: "waiting for room" in node.unit("emqx-upgrade@4.4.0.service")["StatusText"], timeout=60)
    node.free_disk(STATE)

    assert_whole(node, messages)
    assert exit_status(node) == ROLLED_BACK
    assert node_files(node) == before
    assert node.unit("emqx-upgrade@4.4.0.service")["NRestarts"] == "0"


def test_disk_becomes_read_only(node_factory):
    """As ext4 makes itself after an error. The conductor stays, says what it waits for, and goes on once the disk is mended."""
    node = node_factory(disk="ext4")
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: "node-stopped" in event_names(node), timeout=60, every=0.02)
    node.make_read_only()
    unit = "emqx-upgrade@4.4.0.service"
    node.wait_until(lambda: "waiting for leave to write to" in node.unit(unit)["StatusText"], timeout=60)
    assert (node.unit(unit)["ActiveState"], node.unit(unit)["NRestarts"]) == ("activating", "0")
    node.repair()
    node.boot()
    assert_whole(node, messages)


def test_resume_unit_is_started_while_the_upgrade_runs(node):
    """By hand, or by `systemctl isolate multi-user.target`, which wants it. Who conducts is alive, and needs no help."""
    messages = retained(node, node.n_retained)
    node.write("/etc/emqx-upgrade/hooks.d/hold", f"#!/bin/sh\n[ $1 = drain ] || echo somebody >{STATE}/hold\n", mode=0o755)
    start(node, block=False)
    node.wait_until(lambda: "node-stopped" in event_names(node), timeout=60, every=0.02)
    assert node.run("systemctl start emqx-upgrade-resume", check=False).returncode == 0
    assert_whole(node, messages)
    assert running_version(node) == "4.4.0"
    assert "upgrade-resumed" not in event_names(node)
    assert node.unit("emqx-upgrade-resume.service")["ConditionResult"] == "yes"


@pytest.mark.parametrize("event, result, version", [("drain", REFUSED, "4.3.12"), ("undrain", DONE, "4.4.0")])
def test_disk_fills_up_while_the_node_serves(node_factory, event, result, version):
    """The record can be written all the same: that a refusal touched nothing, or that the new version is well."""
    node = node_factory(disk="ext4")
    before, messages = node_files(node), retained(node, node.n_retained)
    node.write("/etc/emqx-upgrade/hooks.d/fill", f"#!/bin/sh\n[ $1 != {event} ] || [ -e /var/lib/.filler ] || fallocate -l $(df --output=avail -B1 "
               "/var/lib | tail -n 1) /var/lib/.filler\nexit 0\n", mode=0o755)
    start(node)
    assert node.exists("/var/lib/.filler")
    node.free_disk("/var/lib")

    assert_whole(node, messages)
    assert exit_status(node) == result
    assert running_version(node) == version
    assert result == DONE or node_files(node) == before
    assert not node.exists(f"{STATE}/reserve")
