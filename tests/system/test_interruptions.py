# SPDX-License-Identifier: Apache-2.0
"""Interrupted anywhere, the upgrade ends whole without help: in the new version, or in the old one."""

import pytest

from upgrade import (STEPS, assert_node_is, event_names, events, package_state, retained, running_version, start,
                     wait_for_end, assert_nothing_is_left)

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


# The record is replaced when it is opened (1), when a step is begun (2, 4, …) and when it is done (3, 5, …).
@pytest.mark.parametrize("kind, step, at", [("deb", s, at) for s in STEPS for at in ("begun", "done")] +
                         [(k, s, "begun") for k in ("rpm", "zip") for s in ("stage", "backup", "remove", "install", "restore", "start")])
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
    assert running_version(node) == "4.3.12"
    assert_nothing_is_left(node)


def test_stop_after_the_point_of_no_return_finishes_first(node):
    messages = retained(node, node.n_retained)
    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "install" for e in events(node, "step-begun")), timeout=60, every=0.02)
    assert node.run("systemctl stop emqx-upgrade@4.4.0", check=False, timeout=120).returncode == 0
    assert_whole(node, messages)
    assert running_version(node) == "4.4.0"
    assert "stop-requested" in event_names(node) and event_names(node)[-1] == "upgrade-done"
