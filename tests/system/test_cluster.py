# SPDX-License-Identifier: Apache-2.0
"""A cluster of three nodes behind HAProxy, upgraded node by node while clients publish. One cluster for all: the tests are
the evening's story, in this order, and each rests on the one before. What is seen of the cluster is asked of mnesia on each
node; what clients see, of clients that are in none of the machines.

Operators' commands are those of emqx-upgrade-tutorial(7), which test_tutorial.py follows from its first line to its last."""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pytest

import kinds
from conftest import PACKAGES, Node
from machine.cache import TOP, cached, digest
from machine.machine import Machine
from machine.network import Network
from machine.root import HOST, SUITE, debian
from upgrade import DONE, REFUSED, ROLLED_BACK, assert_node_is, events, exit_status, wait_for_end

HOOK = "/usr/share/emqx-upgrade/hooks/haproxy"
HOOKS_DIR = "/etc/emqx-upgrade/hooks.d"
PUBLISHERS = pathlib.Path(__file__).with_name("publishers.py")
N_CLIENTS = 6
KEPT = {f"kept/{i}": f"value {i}" for i in range(5)}

#: What is entered, a here document included.
TUTORIAL = re.findall(r"^(?:\.Dl )?# (.* <<'END'\n(?s:.*?)\nEND|.*)$", (TOP / "man/emqx-upgrade-tutorial.7").read_text(), re.M)


def enter(m, command, check=True, then=None, limit=None):
    """A command of the tutorial, and one in the same shell; limit: seconds for one that has no end."""
    assert command in TUTORIAL and (not then or then in TUTORIAL)
    line = "\n".join(["cd /root", f"timeout {limit} {command}" if limit else command, then or ""])
    done = m.run(line, check=False, timeout=600)
    assert not check or done.returncode == 0, done.stdout + done.stderr + m.run("journalctl -n 30 --no-pager -o cat").stdout
    return done


HAPROXY_CFG = """
global
    stats socket /run/haproxy.sock level admin
    stats socket ipv4@0.0.0.0:9999 level admin
defaults
    mode tcp
    option redispatch
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen mqtt
    bind :1884
    balance leastconn
    default-server check inter 200ms rise 2 fall 2
    server a 10.99.0.1:1883
    server b 10.99.0.2:1883
"""


def haproxy_debs():
    """HAProxy, and what a machine lacks for it, from Debian: apt runs in a root that is not booted, and so has this host's network."""
    script = "apt-get -q update && apt-get -q -y -o APT::Sandbox::User=root --no-install-recommends --download-only install haproxy socat"

    def make(path):
        m = Machine(debian())
        try:
            subprocess.run(["chroot", m.top, "sh", "-c", script], check=True, capture_output=True)
            for deb in m.path("/var/cache/apt/archives").glob("*.deb"):
                shutil.copy(deb, path)
        finally:
            m.stop()
    return sorted(cached("haproxy-debs" if SUITE == HOST else f"{SUITE}-haproxy-debs", digest(debian(), script), make).glob("*.deb"))


class Cluster:
    def __init__(self, network, nodes):
        self.network, self.nodes = network, nodes
        self.a, self.b, self.c = nodes
        self.names = [f"emqx@{m.address}" for m in nodes]

    def view(self, m):
        """[running, members] as m's Mnesia has them, sorted."""
        asked = m.run(["emqx", "eval", "[lists:sort(mnesia:system_info(K)) || K <- [running_db_nodes, db_nodes]]."]).stdout
        return json.loads("".join(asked.split()).replace("'", '"'))

    def assert_whole(self):
        for m in self.nodes:
            assert self.view(m) == [self.names, self.names]

    def kept(self, m):
        """Retained messages that a client of m gets."""
        asked = ["mosquitto_sub", "-h", m.address, "-t", "kept/#", "-v", "-C", str(len(KEPT)), "-W", "10"]
        return dict(line.split(" ", 1) for line in self.network.run(asked, check=False).stdout.splitlines())

    def haproxy(self, command):
        asked = f"exec 3<>/dev/tcp/10.99.0.100/9999; echo '{command}' >&3; cat <&3"
        return self.network.run(["bash", "-c", asked]).stdout

    def sessions(self):
        """{server: (status, sessions)}"""
        rows = [row.split(",") for row in self.haproxy("show stat -1 4 -1").splitlines() if row]
        status, sessions = rows[0].index("status"), rows[0].index("scur")
        return {row[1]: (row[status], int(row[sessions])) for row in rows[1:]}


def _boot(root, node_packages, network):
    m = Node(root, node_packages, network=network)
    # It has no address yet at boot: its node is started afterwards.
    m.path("etc/systemd/system/multi-user.target.wants/emqx.service").unlink()
    m.boot()
    m.run(f"rm -r /var/lib/emqx/mnesia/* /var/lib/emqx/configs/*; systemctl enable -q emqx\n"
          f"sed -i 's/^node.name = .*/node.name = emqx@{m.address}/' /etc/emqx/emqx.conf")
    # 4.3 gives its start fifteen seconds; on a busy machine systemd tries again.
    m.run("systemctl start emqx", check=False, timeout=120)
    return m


@pytest.fixture(scope="module")
def cluster(populated_root, node_packages):
    """Three nodes of 4.3.12 in one cluster; HAProxy, on the third machine, is in front of the first two."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        nodes = []
        for _ in range(3):
            nodes.append(_boot(populated_root("4.3.12"), node_packages, network))
            stack.callback(nodes[-1].stop)
        k = Cluster(network, nodes)
        k.c.install(*haproxy_debs())
        k.c.write("/etc/haproxy/haproxy.cfg", HAPROXY_CFG)
        k.c.run("ip addr add 10.99.0.100/24 dev host0; systemctl restart haproxy")
        for m in nodes:
            m.wait_until(lambda: "is running now!" in m.run(f"cat {m.log}/erlang.log.*", check=False).stdout, timeout=90)
            m.wait_until(lambda: m.unit("emqx.service")["ActiveState"] == "active", timeout=120)
            m.run("systemctl reset-failed emqx")  # and counts no restart of before
            if m is not k.a:
                assert "Join the cluster successfully." in m.run(f"emqx_ctl cluster join {k.names[0]}").stdout
        for topic, payload in KEPT.items():
            k.a.run(["mosquitto_pub", "-q", "1", "-r", "-t", topic, "-m", payload])
        k.a.wait_until(lambda: {s for s, _ in k.sessions().values()} == {"UP"})
        k.assert_whole()
        yield k


@pytest.fixture
def load(cluster, tmp_path):
    """Clients that publish through HAProxy, and one that has subscribed at a node that stays. told() ends them; nobody was
    refused, and all that was acknowledged has arrived."""
    received = tmp_path / "received"
    inside = ["ip", "netns", "exec", cluster.network.name]
    with contextlib.ExitStack() as ends:
        class Load:
            def begin(self, at):
                subscribe = [*inside, "mosquitto_sub", "-h", at.address, "-q", "1", "-t", "load/#", "-F", "%t %p"]
                with received.open("w") as out:
                    subscriber = subprocess.Popen(subscribe, stdout=out)
                ends.callback(subscriber.wait)
                ends.callback(subscriber.terminate)

                def subscribed():
                    cluster.network.run(["mosquitto_pub", "-h", at.address, "-q", "1", "-t", "load/probe", "-m", "0"])
                    return received.stat().st_size
                at.wait_until(subscribed)
                self.publishers = subprocess.Popen([*inside, sys.executable, PUBLISHERS, "10.99.0.100", "1884", str(N_CLIENTS)],
                                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                ends.callback(self.publishers.wait)
                ends.callback(self.publishers.kill)
                cluster.a.wait_until(lambda: sum(n for _, n in cluster.sessions().values()) >= N_CLIENTS)

            def told(self):
                told = json.loads(self.publishers.communicate(timeout=60)[0])
                acked = {f"load/{client} {n}" for client, last in told["acked"].items() for n in range(1, last + 1)}
                cluster.a.wait_until(lambda: set(received.read_text().splitlines()) >= acked)
                assert len(told["acked"]) == N_CLIENTS and told["refused"] == 0
                ends.close()
                return told
        yield Load()


def plan(m):
    """(exit status, what was said)"""
    asked = enter(m, "emqx-upgrade plan 4.4.0", check=False)
    return asked.returncode, asked.stdout + asked.stderr


def refused(m, says):
    status, said = plan(m)
    assert status == REFUSED and says in said, said


def upgrade(m):
    return enter(m, "systemctl start emqx-upgrade@4.4.0", check=False).returncode


def prepare(k, emqx_upgrade_deb, node_packages):
    package = f"{PACKAGES}/*4.4.0*.deb"
    k.a.push(emqx_upgrade_deb, "/root/emqx-upgrade_0.1.0_amd64.deb")
    enter(k.a, "apt install ./emqx-upgrade_0.1.0_amd64.deb")
    for variant in ("4.3.12", "4.4.0"):
        k.a.push(kinds.package(node_packages, variant, "deb"), "/root")
    enter(k.a, f"cp emqx*4.3.12*.deb emqx*4.4.0*.deb {PACKAGES}")
    enter(k.a, f"cd {PACKAGES}", then='for f in *.deb; do sha256sum "$f" > "$f.sha256"; done')
    enter(k.a, f"cd {HOOKS_DIR}", then=f"ln -s {HOOK} 50-haproxy")
    enter(k.a, next(c for c in TUTORIAL if c.startswith("cat > /etc/emqx-upgrade/haproxy.conf")))
    k.a.run("echo HAPROXY_DRAIN_SEC=2 >>/etc/emqx-upgrade/haproxy.conf")
    assert k.a.run(f"cd {PACKAGES}; sha256sum {package}").stdout.split()[0] in k.a.run(f"cat {PACKAGES}/*.sha256").stdout

    for m in (k.b, k.c):
        m.push_package("4.3.12")
        m.push_package("4.4.0")
    k.b.run(f"ln -s {HOOK} {HOOKS_DIR}/50-haproxy")
    k.b.write("/etc/emqx-upgrade/haproxy.conf", "HAPROXY_SOCKETS=10.99.0.100:9999\nHAPROXY_SERVERS=mqtt/b\nHAPROXY_DRAIN_SEC=2\n")
    status, said = plan(k.a)
    assert status == DONE and f"all 3 members run and see each other: {', '.join(k.names)}" in said


def cluster_that_is_not_whole_refuses(k):
    k.b.run("emqx eval 'application:set_env(ekka, cluster_autoclean, 30000).'")
    refused(k.a, f"{k.names[1]} drops members that are down for 30")
    k.b.run("emqx eval 'application:set_env(ekka, cluster_autoclean, 300000).'")

    k.c.run("systemctl stop emqx")
    pid = k.a.unit("emqx.service")["MainPID"]
    assert upgrade(k.a) != 0 and exit_status(k.a) == REFUSED
    assert f"The cluster is not whole: {k.names[2]} does not run" in events(k.a, "upgrade-refused")[-1]["MESSAGE"]
    assert k.a.unit("emqx.service")["MainPID"] == pid
    k.c.run("systemctl reset-failed emqx; systemctl start emqx")
    k.c.wait_until(lambda: "all 3 members run and see each other" in plan(k.c)[1], timeout=60, every=1)


def first_node_is_upgraded_behind_haproxy(k, load):
    enter(k.a, "systemctl start emqx-upgrade-stage@4.4.0")
    # The last hook: the node is back in HAProxy, but the upgrade is not over.
    k.a.write(f"{HOOKS_DIR}/90-wait", "#!/bin/sh\n[ $1 = drain ] || while [ ! -e /root/go-on ]; do sleep 0.1; done\n", mode=0o755)
    load.begin(k.c)
    conductor = threading.Thread(target=upgrade, args=(k.a,))
    conductor.start()
    # Nobody is left on a node that is stopped, and nobody is without a node.
    k.a.wait_until(lambda: events(k.a, "node-stopped"), timeout=120)
    assert k.sessions()["b"] == ("UP", N_CLIENTS) and k.sessions()["a"][1] == 0
    k.a.wait_until(lambda: k.a.run("ps -eo args | grep -q '[9]0-wait undrain'", check=False).returncode == 0, timeout=180)
    assert k.sessions()["a"][0] == "UP"

    refused(k.b, f"{k.names[0]} is being upgraded")
    said = enter(k.a, "emqx-upgrade status").stdout
    assert "undrain" in said and "interrupted" not in said
    assert "undrain" in enter(k.a, "systemctl status emqx-upgrade@4.4.0", check=False).stdout
    assert "haproxy: mqtt/a UP" in enter(k.a, "journalctl -f -u emqx-upgrade@4.4.0", check=False, limit=1).stdout
    k.a.run("touch /root/go-on")
    conductor.join()
    assert exit_status(k.a) == DONE

    told = load.told()
    assert told["lost"] >= 1
    said = [e["MESSAGE"] for e in events(k.a, "step-output")]
    assert "haproxy: mqtt/a drained at 10.99.0.100:9999" in said and "haproxy: mqtt/a UP at 10.99.0.100:9999" in said
    assert f"Node '{k.names[0]}' 4.4.0 is started" in enter(k.a, "emqx_ctl status").stdout
    assert "stopped_nodes => []" in enter(k.b, "emqx_ctl cluster status").stdout
    assert_node_is(k.a, "4.4.0")
    assert_node_is(k.b, "4.3.12")
    k.assert_whole()
    assert k.kept(k.a) == KEPT
    k.a.run(f"rm {HOOKS_DIR}/90-wait")


def second_node_fails_and_the_cluster_is_whole(k, load):
    """Its new version runs, but by itself."""
    k.b.run(f"rm {PACKAGES}/*4.4.0*")
    k.b.push_package("4.4.0-no-join")
    k.b.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/verify.conf", "[Upgrade]\nVerifyTimeoutSec=15s\n")
    load.begin(k.c)
    assert upgrade(k.b) != 0
    assert exit_status(k.b) == ROLLED_BACK
    load.told()
    cause = events(k.b, "upgrade-failed")[-1]["MESSAGE"]
    assert "not rejoined its cluster" in cause and f"emqx_ctl cluster join {k.names[0]}" in cause
    assert "not rejoined" in enter(k.b, "journalctl -x -p err -u emqx-upgrade@4.4.0").stdout
    assert_node_is(k.b, "4.3.12")
    k.assert_whole()
    assert k.kept(k.b) == KEPT
    # The next one could be upgraded now; that is for the operator to say.
    status, said = plan(k.c)
    assert status == DONE and "all 3 members run and see each other" in said
    assert_node_is(k.c, "4.3.12")


def the_others_follow(k, load):
    k.b.run(f"rm {PACKAGES}/*4.4.0* /etc/emqx-upgrade/emqx-upgrade.conf.d/verify.conf")
    k.b.push_package("4.4.0")
    load.begin(k.a)
    for m in (k.b, k.c):
        assert upgrade(m) == 0, m.run("journalctl -n 40 --no-pager").stdout
        assert_node_is(m, "4.4.0")
        # Its peers have it back before the next one begins.
        k.assert_whole()
    load.told()
    for m in k.nodes:
        assert k.kept(m) == KEPT
        assert m.run("emqx eval 'application:get_env(emqx_upgrade, id).'").stdout == "undefined\n"


def one_goes_back_after_all(k):
    enter(k.c, "emqx-upgrade rollback")
    wait_for_end(k.c)
    assert_node_is(k.c, "4.3.12")
    k.assert_whole()
    assert k.kept(k.c) == KEPT
    # As one that was dropped.
    k.c.run("emqx_ctl cluster leave")
    assert "Join the cluster successfully." in enter(k.c, "emqx_ctl cluster join emqx@10.99.0.2").stdout
    k.assert_whole()
    assert k.kept(k.c) == KEPT
    assert "rolled" in enter(k.c, "emqx-upgrade history").stdout
    enter(k.c, f"rm {PACKAGES}/*4.3.12*")


def test_cluster_is_upgraded_node_by_node(cluster, load, emqx_upgrade_deb, node_packages):
    """One test: each part goes on from where the one before has left the cluster."""
    prepare(cluster, emqx_upgrade_deb, node_packages)
    cluster_that_is_not_whole_refuses(cluster)
    first_node_is_upgraded_behind_haproxy(cluster, load)
    second_node_fails_and_the_cluster_is_whole(cluster, load)
    the_others_follow(cluster, load)
    one_goes_back_after_all(cluster)


def test_haproxy_hook_on_its_own(cluster):
    """Over the socket in the file system too; it leaves the last server alone, and tells what is wrong."""
    k = cluster

    def hook(event, conf):
        k.c.write("/root/haproxy.conf", conf)
        asked = k.c.run([HOOK, event], env={"HAPROXY_CONF": "/root/haproxy.conf"}, check=False)
        return asked.returncode, asked.stdout + asked.stderr

    local = "HAPROXY_SOCKETS=/run/haproxy.sock\nHAPROXY_SERVERS='mqtt/{}'\nHAPROXY_DRAIN_SEC=1\nHAPROXY_UP_SEC=5\n"
    assert hook("drain", local.format("a")) == (0, "haproxy: mqtt/a drained at /run/haproxy.sock\n")
    assert k.sessions()["a"][0] == "DRAIN"
    status, said = hook("drain", local.format("b"))
    assert status == 1 and "no other server of the backend mqtt serves" in said
    assert k.sessions()["b"][0] == "UP"
    assert hook("undrain", local.format("a"))[0] == 0
    assert k.sessions()["a"][0] == "UP"

    assert hook("drain", local.format("x")) == (1, "haproxy: HAProxy at /run/haproxy.sock has no server mqtt/x\n")
    assert hook("drain", "HAPROXY_SOCKETS=127.0.0.1:9\nHAPROXY_SERVERS=mqtt/a\n")[0] == 75
    assert hook("drain", "") == (1, "haproxy: /root/haproxy.conf: HAPROXY_SOCKETS and HAPROXY_SERVERS have to be set\n")
