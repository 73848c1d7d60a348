# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of the cluster; its section is in the name."""

import re
import subprocess

import pytest

from fidelity import dpkg, emqx_log, ready, start


@pytest.fixture
def cluster(network, installed):
    """Two nodes of 4.3.12 in one cluster."""
    machines = []
    for _ in range(2):
        m = installed("4.3.12", network=network)
        m.run(f"sed -i 's/^node.name = .*/node.name = emqx@{m.address}/' /etc/emqx/emqx.conf")
        start(m)
        ready(m)
        machines.append(m)
    a, b = machines
    told = b.run(f"emqx_ctl cluster join emqx@{a.address}")
    assert "Join the cluster successfully." in told.stdout and "emqx shutdown for join" in told.stdout + told.stderr
    return a, b


def cluster_status(m):
    text = " ".join(m.run("emqx_ctl cluster status").stdout.split())
    running, stopped = re.fullmatch(r"Cluster status: #\{running_nodes => \[(.*)\], ?stopped_nodes => \[(.*)\]\}", text).groups()
    return [sorted(re.findall("'([^']+)'", group)) for group in (running, stopped)]


def test_facts_5_2_stopped_node_is_listed_and_rejoins_with_another_version(cluster, node_packages):
    a, b = cluster
    both = sorted(f"emqx@{m.address}" for m in cluster)
    assert cluster_status(a) == cluster_status(b) == [both, []]
    a.run("mosquitto_pub -q 1 -r -t kept -m 1")
    b.wait_until(lambda: b.run("mosquitto_sub -t kept -C 1 -W 1", check=False).stdout == "1\n")

    b.run("systemctl stop emqx")
    assert cluster_status(a) == [[f"emqx@{a.address}"], [f"emqx@{b.address}"]]
    a.run("mosquitto_pub -q 1 -r -t kept -m 2")
    dpkg(b, node_packages, "4.4.0", "--force-confold", "--force-confdef")
    start(b)
    ready(b)
    assert cluster_status(a) == cluster_status(b) == [both, []]
    assert b.run("mosquitto_sub -t kept -C 1 -W 3").stdout == "2\n"

    listener = b.spawn(["mosquitto_sub", "-q", "1", "-t", "live", "-C", "1", "-W", "20"], stdout=subprocess.PIPE, text=True)
    b.wait_until(lambda: re.search(r"subscriptions.count +: 1", b.run("emqx_ctl broker stats").stdout))
    a.run("mosquitto_pub -q 1 -t live -m crossed")
    assert listener.communicate(timeout=30)[0] == "crossed\n"


def test_facts_5_2_node_that_stopped_first_waits_for_the_last(cluster):
    a, b = cluster
    a.run("systemctl stop emqx")
    b.run("systemctl stop emqx")
    start(a)
    assert a.run("emqx ping").stdout == "pong\n"
    assert a.run("bash -c ': </dev/tcp/127.0.0.1/1883'", check=False).returncode != 0
    assert a.run("emqx_ctl status", check=False).returncode == 1
    a.wait_until(lambda: re.search(r"\[warning\] ekka_mnesia: still waiting for table\(s\): \[", emqx_log(a)), timeout=60)
    start(b, check=False)  # 4.3 gives a start fifteen seconds; systemd tries again
    ready(a)
    ready(b)


def test_facts_5_2_autoclean_drops_a_member_that_stays_away(cluster):
    a, b = cluster
    assert a.run("emqx eval 'application:get_env(ekka, cluster_autoclean).'").stdout == "{ok,300000}\n"
    a.run("systemctl stop emqx; sed -i 's/^cluster.autoclean = .*/cluster.autoclean = 4s/' /etc/emqx/emqx.conf")
    start(a)
    ready(a)
    b.run("systemctl stop emqx")
    a.wait_until(lambda: cluster_status(a) == [[f"emqx@{a.address}"], []])


def test_facts_5_2_leave_empties_the_node(cluster):
    a, b = cluster
    a.run("mosquitto_pub -q 1 -r -t kept -m 1")
    assert "Leave the cluster successfully." in b.run("emqx_ctl cluster leave").stdout
    assert cluster_status(b) == [[f"emqx@{b.address}"], []]
    assert cluster_status(a) == [[f"emqx@{a.address}"], []]
    assert b.run("mosquitto_sub -t kept -W 1", check=False).stdout == ""
