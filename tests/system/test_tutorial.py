# SPDX-License-Identifier: Apache-2.0
"""emqx-upgrade-tutorial(7), followed literally: every command of the page, in its order, on three hosts that have never seen
the program, behind the HAProxy of emqx-upgrade-haproxy(8). What the page shows of an answer has to be in the answer. What the
page does not tell a reader to do, nobody does here; only watching is short."""

import contextlib
import re

import pytest

import kinds
from conftest import WATCH, Node
from machine.cache import TOP
from machine.network import Network
from machine.root import debian
from test_cluster import haproxy_debs
from upgrade import PACKAGES, assert_node_is, running_version

PAGE = (TOP / "man/emqx-upgrade-tutorial.7").read_text()
HAPROXY_PAGE = (TOP / "man/emqx-upgrade-haproxy.8").read_text()

#: On which hosts a section's commands are entered, one host after the other.
HOSTS = {"Before you begin": "a", "Install emqx-upgrade": "abc", "Provide the packages": "abc", "Tell HAProxy": "abc",
         "Ask what would happen": "abc", "The evening before: stage": "abc", "The first node": "a", "See that all is well": "a",
         "One after the other": "bc", "When one fails": "c", "To go back after all": "c", "Clean up": "a"}


class Command:
    def __init__(self, line):
        self.line, self.shown = line, []


def sections(page):
    """[(title, [Command, …])] in the order of the page. What is shown of an answer is in paragraphs, "..." between them."""
    found = []
    for title, text in re.findall(r"^\.Ss (.*)\n((?s:.*?))(?=^\.S[sh] |\Z)", page, re.M):
        commands = []
        for single, block in re.findall(r"^\.Dl (# .*)$|^\.Bd -literal.*\n((?s:.*?))^\.Ed$", text, re.M):
            lines = iter([single] if single else block.replace("\\&", "").splitlines())
            for line in lines:
                if line.startswith("# "):
                    commands.append(Command(line[2:]))
                    if "<<'END'" in line:
                        for more in lines:
                            commands[-1].line += f"\n{more}"
                            if more == "END":
                                break
                else:
                    commands[-1].shown.append(line)
        found.append((title, commands))
    return found


def words(text):
    """Without what differs from upgrade to upgrade, and from terminal to terminal."""
    text = re.sub(r"[0-9a-f]{32}", "ID", text)
    return re.sub(r"\d+(\.\d+)? (ms|s|min)\b", "TIME", " ".join(text.split()))


class Host:
    """A shell on one host: it stays in the directory that it is in."""
    def __init__(self, name, machine):
        self.name, self.machine, self.cwd = name, machine, "/root"

    def enter(self, command):
        line = command.line
        if "haproxy.conf" in line:  # as the page says
            line = line.replace("mqtt/a", f"mqtt/{self.name}")
        if "journalctl -f" in line:  # Ctrl-C
            line = f"timeout -s INT 1 {line}"
        done = self.machine.run(f"cd {self.cwd} || exit 100\n{line}\nrc=$?; pwd >/run/cwd; exit $rc", check=False, timeout=120)
        self.cwd = self.machine.run("cat /run/cwd").stdout.strip()
        said = f"{self.name}: {line}\n{done.stdout}{done.stderr}"
        print(said)
        inactive = 3 if line.startswith("systemctl status") else 0
        assert done.returncode == (124 if "timeout" in line else inactive), said
        for shown in re.split(r"^\.\.\.$", "\n".join(command.shown), flags=re.M):
            assert words(shown) in words(done.stdout), f"the page shows\n{shown}\nbut: {said}"


def haproxy_cfg():
    (cfg,) = re.findall(r"^HAProxy, in front of three nodes:\n\.Bd .*\n((?s:.*?))^\.Ed$", HAPROXY_PAGE, re.M)
    return cfg.replace("\\&", "")


@pytest.fixture(scope="module")
def hosts(node_packages, emqx_upgrade_deb):
    """{name: Host}: nodes of 4.3.12 in one cluster, the three packages in /root, and nothing else of ours."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        found = {}
        for name in ("a", "b", "c", "haproxy"):
            m = Node(debian(), node_packages, network=network)
            stack.callback(m.stop)
            m.boot()
            found[name] = Host(name, m)
        front = found.pop("haproxy").machine
        front.install(*haproxy_debs())
        front.write("/etc/haproxy/haproxy.cfg", haproxy_cfg())
        front.run("ip addr add 10.99.0.100/24 dev host0; systemctl restart haproxy")
        for host in found.values():
            m = host.machine
            kinds.install(m, node_packages, "deb", "4.3.12")
            m.run(f"sed -i 's/^node.name = .*/node.name = emqx@{m.address}/' /etc/emqx/emqx.conf; systemctl enable -q emqx")
            m.run("systemctl start emqx", check=False, timeout=120)
            for file in (emqx_upgrade_deb, *(kinds.package(node_packages, v, "deb") for v in ("4.3.12", "4.4.0"))):
                m.push(file, "/root")
            m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/10-watch.conf", WATCH)
        for host in found.values():
            m = host.machine
            m.wait_until(lambda m=m: running_version(m) == "4.3.12", timeout=120)
            m.run("systemctl reset-failed emqx")
            if host is not found["a"]:
                assert "Join the cluster successfully." in m.run("emqx_ctl cluster join emqx@10.99.0.1").stdout
        yield found


def test_tutorial_is_followed_from_its_first_line_to_its_last(hosts):
    page = sections(PAGE)
    assert [title for title, _ in page] == list(HOSTS)
    for title, commands in page:
        assert commands, title
        for name in HOSTS[title]:
            for command in commands:
                if "cluster join" in command.line:  # as one that was dropped
                    hosts[name].machine.run("emqx_ctl cluster leave")
                hosts[name].enter(command)
                if "cluster status" in command.line:
                    assert "stopped_nodes => []" in hosts["b"].machine.run(command.line).stdout
        if title == "One after the other":
            for host in hosts.values():
                assert_node_is(host.machine, "4.4.0")
    for name, version in {"a": "4.4.0", "b": "4.4.0", "c": "4.3.12"}.items():
        assert_node_is(hosts[name].machine, version)
    told = hosts["c"].machine.run("emqx_ctl cluster status").stdout
    assert all(f"emqx@10.99.0.{i}" in told for i in (1, 2, 3)) and "stopped_nodes => []" in told
    # What the page says of the file that it has removed.
    assert "4.3.12" not in hosts["a"].machine.run(f"ls {PACKAGES}").stdout
    hosts["a"].machine.run("emqx-upgrade rollback", timeout=120)
    assert_node_is(hosts["a"].machine, "4.3.12")
