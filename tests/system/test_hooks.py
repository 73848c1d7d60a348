# SPDX-License-Identifier: Apache-2.0
"""The operator's hooks: around the time in which the node is down, with what they need to know, and never in the way of it."""

import pytest

from test_refusals import refused
from upgrade import REFUSED, ROLLED_BACK, assert_node_is, event_names, events, exit_status, start

HOOKS = "/etc/emqx-upgrade/hooks.d"
LOG = "/var/log/hooks"

#: Notes the event and whether the node serves.
NOTE = f"""#!/bin/sh
echo "$(basename "$0") $1 $(systemctl is-active emqx) $EMQX_UPGRADE_FROM $EMQX_UPGRADE_TO $EMQX_UPGRADE_NODE $EMQX_UPGRADE_MQTT_PORT" >>{LOG}
"""


def hook(m, name, script=NOTE, mode=0o755):
    m.write(f"{HOOKS}/{name}", script, mode=mode)


def ran(m):
    return [line.split()[:3] for line in m.run(f"cat {LOG}", check=False).stdout.splitlines()]


def test_hooks_drain_and_undrain_in_the_order_of_their_names(node):
    for name in ("50-second", "10-first"):
        hook(node, name)
    hook(node, "60-off", mode=0o644)
    hook(node, "70-left.dpkg-old")
    hook(node, "says", "#!/bin/sh\necho \"I was asked to $1\"\n")

    assert start(node).returncode == 0
    assert ran(node) == [["10-first", "drain", "active"], ["50-second", "drain", "active"],
                         ["10-first", "undrain", "active"], ["50-second", "undrain", "active"]]
    assert node.run(f"head -1 {LOG}").stdout.split()[3:] == ["4.3.12", "4.4.0", "emqx@127.0.0.1", "1883"]
    assert "I was asked to drain" in [e["MESSAGE"] for e in events(node, "step-output")]


def test_failing_drain_refuses_and_undrains(node):
    pid = node.unit("emqx.service")["MainPID"]
    hook(node, "10-note")
    hook(node, "20-fails", "#!/bin/sh\n[ $1 != drain ] || { echo no backend left; exit 1; }\n")

    assert start(node).returncode != 0
    assert exit_status(node) == REFUSED
    assert "hook `/etc/emqx-upgrade/hooks.d/20-fails drain` failed with status 1" in events(node, "upgrade-refused")[-1]["EMQX_UPGRADE_ERROR"]
    assert [event for _, event, _ in ran(node)] == ["drain", "undrain"]
    assert node.unit("emqx.service")["MainPID"] == pid
    assert_node_is(node, "4.3.12")


def test_failing_undrain_is_loud_but_no_reason_to_go_back(node):
    hook(node, "fails", "#!/bin/sh\n[ $1 != undrain ]\n")

    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    (failed,) = events(node, "hook-failed")
    assert failed["PRIORITY"] == "3" and "undrain" in failed["EMQX_UPGRADE_ERROR"]


def test_hook_is_asked_again_and_not_for_ever(node_factory):
    m = node_factory()
    hook(m, "twice", f"#!/bin/sh\necho again $1 - >>{LOG}; [ $(grep -c \"again $1\" {LOG}) = 2 ] || exit 75\n")
    assert start(m).returncode == 0
    assert ran(m) == [["again", event, "-"] for event in ("drain", "drain", "undrain", "undrain")]

    m = node_factory()
    m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/hooks.conf", "[Upgrade]\nHookTimeoutSec=3s\n")
    hook(m, "hangs", "#!/bin/sh\n[ $1 != drain ] || sleep 1000\n")
    assert start(m).returncode != 0
    assert exit_status(m) == REFUSED
    assert "took longer than 3" in events(m, "upgrade-refused")[-1]["EMQX_UPGRADE_ERROR"]
    assert_node_is(m, "4.3.12")


def test_hook_that_others_can_write_to_is_not_run(node):
    hook(node, "open", NOTE, mode=0o757)

    assert start(node).returncode != 0
    assert exit_status(node) == REFUSED
    assert "can be written to by others" in events(node, "upgrade-refused")[-1]["EMQX_UPGRADE_ERROR"]
    assert ran(node) == []


def test_node_is_put_back_after_a_rollback(node_factory):
    m = node_factory(target="4.4.0-no-start")
    hook(m, "note")

    assert start(m).returncode != 0
    assert exit_status(m) == ROLLED_BACK
    assert ran(m) == [["note", "drain", "active"], ["note", "undrain", "active"]]
    assert event_names(m)[-1] == "rollback-done"


def test_plan_runs_no_hook(node):
    hook(node, "note")
    assert node.run("emqx-upgrade plan 4.4.0").returncode == 0
    assert ran(node) == []


@pytest.mark.parametrize("change, says, undo", [
    ("systemctl disable emqx", "enablement was enabled and is disabled now", "systemctl enable emqx"),
    ("sed -i 's/^listener.tcp.external = .*/listener.tcp.external = 0.0.0.0:1884/' /etc/emqx/emqx.conf",
     "mqtt_port was 1883 and is 1884 now", "sed -i 's/^listener.tcp.external = .*/listener.tcp.external = 0.0.0.0:1883/' /etc/emqx/emqx.conf"),
    ("mkdir -m 750 /srv/data; chown emqx: /srv/data; sed -i '$anode.data_dir = /srv/data' /etc/emqx/emqx.conf",
     "a directory with data was not there and is /srv/data now", "sed -i '$d' /etc/emqx/emqx.conf"),
    ("sed -i '/^Package: emqx$/,/^$/s/^Status: .*/Status: install ok half-configured/' /var/lib/dpkg/status",
     "half", "sed -i '/^Package: emqx$/,/^$/s/^Status: .*/Status: install ok installed/' /var/lib/dpkg/status"),
])
def test_node_that_is_changed_underfoot_is_not_stopped(underfoot, change, says, undo):
    """By another admin, or by unattended-upgrades, while the data was copied and the node drained."""
    pid = underfoot.unit("emqx.service")["MainPID"]
    hook(underfoot, "changes", f"#!/bin/sh\n[ $1 != drain ] || {{ {change}; }}\n")
    refused(underfoot, says=[says])
    underfoot.run(undo)
    assert underfoot.unit("emqx.service")["MainPID"] == pid
    assert_node_is(underfoot, "4.3.12")


@pytest.fixture(scope="module")
def underfoot(boot_node):
    m = boot_node(kind="deb")
    yield m
    m.stop()
