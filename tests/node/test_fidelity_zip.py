# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of the .zip, and of a node that an operator has made of it; its section is in the name."""

import re
import stat
import zipfile

import pytest

import kinds
from fidelity import start
from machine.machine import Machine
from machine.root import debian

CTL = "su - emqx -s /bin/bash -c '/opt/emqx/bin/emqx_ctl status'"
ABSOLUTE = re.compile("/(usr/lib|var/lib|var/log|etc)/emqx")


def ready(m, ctl=CTL):
    m.wait_until(lambda: "is started" in m.run(ctl, check=False).stdout)


@pytest.fixture
def content(node_packages, request):
    with zipfile.ZipFile(kinds.package(node_packages, request.param, "zip")) as z:
        yield z


@pytest.fixture(scope="module")
def node(node_packages):
    """4.3.12, ready, for tests that leave it as it is."""
    with Machine(debian()) as m:
        kinds.install(m, node_packages, "zip", "4.3.12")
        start(m)
        ready(m)
        yield m


@pytest.mark.parametrize("variant, name", [
    ("4.3.22", "emqx-ubuntu20.04-4.3.22-amd64.zip"), ("4.4.0", "emqx-4.4.0-otp24.1.5-3-ubuntu20.04-amd64.zip")])
def test_facts_1_1_zip_names(node_packages, variant, name):
    assert kinds.package(node_packages, variant, "zip").name == name
    assert (node_packages / variant / (name + ".sha256")).exists()


@pytest.mark.parametrize("content", ["4.3.12", "4.4.11"], indirect=True)
def test_facts_2_2_everything_is_below_one_directory(content):
    names = content.namelist()
    assert {name.split("/")[0] for name in names} == {"emqx"}
    tops = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert {re.sub("^erts-.*", "erts", top) for top in tops} == {"bin", "etc", "data", "log", "lib", "erts", "releases"}
    assert not any(name.endswith(".service") for name in names)
    mode = content.getinfo("emqx/bin/emqx").external_attr >> 16
    assert stat.S_IMODE(mode) == 0o755 and stat.S_ISREG(mode)


@pytest.mark.parametrize("content", ["4.3.12", "4.4.11"], indirect=True)
def test_facts_2_2_paths_are_relative(content):
    conf = content.read("emqx/etc/emqx.conf").decode().splitlines()
    for line in ("node.data_dir = data", "log.dir = log", "acl_file = etc/acl.conf",
                 "plugins.loaded_file = data/loaded_plugins"):
        assert line in conf
    texts = [n for n in content.namelist() if re.search(r"/etc/|\.schema$|\.args$|emqx_vars$", n) and not n.endswith("/")]
    assert len(texts) > 60
    assert [n for n in texts if ABSOLUTE.search(content.read(n).decode())] == []


@pytest.mark.parametrize("content", ["4.3.12"], indirect=True)
def test_facts_2_2_emqx_vars_find_the_place_at_run_time(content):
    lines = content.read("emqx/releases/emqx_vars").decode().splitlines()
    for line in ('REL_VSN="4.3.12"', 'RUNNER_ROOT_DIR="$(cd $(dirname $(readlink $0 || echo $0))/..; pwd -P)"',
                 'RUNNER_DATA_DIR="$RUNNER_ROOT_DIR/data"', 'RUNNER_USER=""'):
        assert line in lines


def test_facts_2_2_node_lives_below_its_directory(node):
    command = node.run("tr '\\0' ' ' </proc/$(su - emqx -c '/opt/emqx/bin/emqx pid')/cmdline").stdout
    assert command.startswith("/opt/emqx/erts-") and '-mnesia dir "/opt/emqx/data/mnesia/emqx@127.0.0.1"' in command
    assert node.exists("/opt/emqx/data/mnesia/emqx@127.0.0.1/schema.DAT")
    assert "is running now!" in node.read("/opt/emqx/log/erlang.log.1")
    assert node.run("find /opt/emqx/data/emqx_erl_pipes -type p | wc -l").stdout == "2\n"
    for path in ("/usr/lib/emqx", "/usr/bin/emqx", "/etc/emqx", "/var/lib/emqx", "/var/log/emqx"):
        assert not node.exists(path), path


def test_facts_2_2_commands_from_anywhere(node):
    assert node.run("su - emqx -c 'cd /opt/emqx && bin/emqx ping'").stdout == "pong\n"
    assert node.run("su - emqx -c '/opt/emqx/bin/emqx root_dir'").stdout == "/opt/emqx\n"
    assert node.run("ln -sfn /opt/emqx/bin/emqx /usr/local/bin/broker; su - emqx -c 'broker ping'").stdout == "pong\n"


def test_facts_2_2_nobody_asks_for_the_user(node):
    node.run("install -d -o nobody /var/tmp/nobody")
    assert node.run("HOME=/var/tmp/nobody /opt/emqx/bin/emqx ping", user="nobody").stdout == "pong\n"
    assert node.run("/opt/emqx/bin/emqx ping", env={"HOME": "/root"}).stdout == "pong\n"
    assert node.run("stat -c %U /root/.erlang.cookie").stdout == "root\n", "root asked as root"


def test_facts_2_2_broker_keeps_messages_there(machine_factory, node_packages):
    m = machine_factory()
    kinds.install(m, node_packages, "zip", "4.4.11")
    start(m)
    ready(m)
    m.run("mosquitto_pub -q 1 -r -t a/b -m kept; systemctl restart emqx")
    ready(m)
    assert m.run("mosquitto_sub -t a/b -C 1 -W 3").stdout == "kept\n"
    assert m.unit("emqx")["FragmentPath"] == "/etc/systemd/system/emqx.service"


def test_facts_2_2_moves_as_a_whole(machine_factory, node_packages):
    m = machine_factory()
    kinds.install(m, node_packages, "zip", "4.4.0")
    m.run("mv /opt/emqx /srv/broker && su - emqx -c '/srv/broker/bin/emqx start'")
    ready(m, "su - emqx -c '/srv/broker/bin/emqx_ctl status'")
    assert m.exists("/srv/broker/data/mnesia/emqx@127.0.0.1/schema.DAT") and not m.exists("/opt/emqx")
