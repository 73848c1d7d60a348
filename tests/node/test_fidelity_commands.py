# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of commands, names and environment; its section is in the name."""

import re

import pytest

from fidelity import DATA, SU, dpkg, erlang_log, evaluate, node_pids, ready, start, stat


def test_facts_3_1_who_may_run_it(node):
    result = node.run("emqx ping", check=False, user="nobody")
    assert (result.returncode, result.stdout) == (1, "You need to be root or use sudo to run this command\n")
    # su - takes the environment away.
    assert node.run("emqx ping", env={"EMQX_NODE_NAME": "other@127.0.0.1"}).stdout == "pong\n"
    seen = node.run(f"{SU} 'EMQX_NODE_NAME=other@127.0.0.1 emqx ping'", check=False)
    assert "'other@127.0.0.1' not responding" in seen.stderr


def test_facts_3_1_quotes_do_not_survive_su(node):
    assert node.run(["emqx", "eval", '"a b"'], check=False).returncode == 127
    assert evaluate(node, '"a b"') == '"a b"\n'


def test_facts_3_1_emqx_ctl_before_4_3_15_runs_as_the_caller(started):
    m = started()
    m.run("rm -f /root/.erlang.cookie; emqx_ctl status")
    assert stat(m, "/root/.erlang.cookie") == "400 root root"
    foreign = m.run("emqx_ctl status", check=False, env={"HOME": "/nowhere"})
    assert foreign.returncode != 0 and "Failed to create cookie file '/nowhere/.erlang.cookie': enoent" in (
        foreign.stdout + foreign.stderr)


def test_facts_3_1_emqx_ctl_since_4_4_4_is_a_wrapper(modern):
    modern.run("rm -f /root/.erlang.cookie; emqx_ctl status")
    assert not modern.exists("/root/.erlang.cookie")


@pytest.mark.parametrize("command, output", [
    ("ping", "pong\n"), ("pid", r"\d+\n"), ("eval 'emqx_app:get_release().'", '"4.3.12"\n'), ("eval '1 + 1'", "2\n"),
    ("rpc emqx_ctl run_command help", None), ("rpcterms lists reverse '[1,2]'", r"\[2,1\]\n"),
    ("versions", r"Installed versions:\n\* 4.3.12\tpermanent\n"), ("root_dir", "/usr/lib/emqx\n"),
    ("ertspath", "/usr/lib/emqx/erts-[0-9.]+/bin\n")])
def test_facts_3_2_commands_of_a_running_node(node, command, output):
    result = node.run(f"emqx {command}")
    assert result.stderr == ""
    assert output is None or re.fullmatch(output, result.stdout)


def test_facts_3_2_pid_is_the_vm(node):
    pid = node.run("emqx pid").stdout.strip()
    assert node.run(f"readlink /proc/{pid}/exe").stdout.strip().endswith("/bin/beam.smp")


@pytest.mark.parametrize("command, status", [("eval 'foo('", 127), ("eval 'no:such()'", 1), ("", 1), ("nonsense", 1),
                                             ("check_conf", 1), ("ctl status", 1), ("rpc no such", 1)])
def test_facts_3_2_commands_that_fail(node, command, status):
    assert node.run(f"emqx {command}", check=False).returncode == status


def test_facts_3_2_start_of_a_running_node(node):
    result = node.run("emqx start", check=False)
    assert (result.returncode, result.stdout) == (1, "Node is already running!\n")


def test_facts_3_2_commands_of_a_stopped_node(started):
    m = started()
    assert m.run(f"{SU} 'emqx stop'").stdout == "ok\n"
    m.wait_until(lambda: node_pids(m) == [])  # erl_child_setup goes last
    m.run("systemctl stop emqx", check=False)
    told = "Node 'emqx@127.0.0.1' not responding to pings.\n"
    for command, stdout in (("ping", ""), ("stop", ""), ("pid", ""), ("eval '1.'", "Node is not running!\n")):
        result = m.run(f"emqx {command}", check=False)
        assert (result.returncode, result.stdout, result.stderr) == (1, stdout, told), command
    ctl = m.run("emqx_ctl status", check=False)
    assert (ctl.returncode, ctl.stderr) == (1, told)
    assert m.run(f"{SU} 'emqx start'").stdout == "EMQ X Broker 4.3.12 is started successfully!\n"


def test_facts_3_2_ctl_and_check_conf_of_later_releases(modern):
    assert modern.run("emqx ctl status").stdout == "Node 'emqx@127.0.0.1' 4.4.11 is started\n"
    assert modern.run("emqx check_conf").stdout == "/etc/emqx/emqx.conf is ok\n"


def test_facts_3_2_ctl_of_a_stopped_later_node(started):
    m = started("4.4.11")
    m.run("systemctl stop emqx")
    result = m.run("emqx_ctl status", check=False)
    assert result.returncode == 1
    assert result.stderr == "Node 'emqx@127.0.0.1' not responding to pings.\nERROR: node_is_not_running!\n"


def test_facts_3_2_unknown_command_of_emqx_ctl_is_help(node):
    result = node.run("emqx_ctl nonsense", check=False)
    assert result.returncode == 1 and "cluster" in result.stdout


def test_facts_3_2_commands_are_the_management_plugin_s(installed):
    m = installed()
    m.run(f"sed -i 's/{{emqx_management, true}}/{{emqx_management, false}}/' {DATA}/loaded_plugins")
    start(m)
    m.wait_until(lambda: "is running now!" in erlang_log(m))
    result = m.run("emqx_ctl status", check=False)
    assert result.returncode == 1 and "is started" not in result.stdout
    assert m.run("emqx ping").stdout == "pong\n"
    assert m.run("curl -s http://127.0.0.1:8081/status", check=False).returncode == 7


def test_facts_3_2_failure_to_join_is_success(node):
    result = node.run("emqx_ctl cluster join nobody@127.0.0.1")
    assert result.stdout == "Failed to join the cluster: {node_down,'nobody@127.0.0.1'}\n"
    assert node.run("emqx_ctl cluster leave").stdout == "Failed to leave the cluster: node_not_in_cluster\n"


def test_facts_3_3_start_gives_up_after_its_wait(installed):
    m = installed("4.4.0-no-start")
    result = m.run(f"{SU} 'WAIT_FOR_ERLANG=3 emqx start'", check=False)
    assert result.returncode == 1
    assert "failed to start within 3 seconds" in result.stdout and "/usr/bin/emqx console" in result.stdout


def test_facts_3_4_commands_before_the_first_boot(installed, node_packages):
    m = installed()
    result = m.run("emqx ping", check=False)
    assert result.returncode == 1
    assert result.stdout == "For command ping, there is no vm.*.args config file found in /var/lib/emqx/configs/\n"
    dpkg(m, node_packages, "4.4.11")
    result = m.run("emqx ping", check=False)
    assert result.stderr == "There is no vm.*.args config file found in '/var/lib/emqx/configs/'\n"


def test_facts_3_4_commands_use_the_newest_vm_args(started):
    m = started()
    m.run(f"sed 's/^-name .*/-name other@127.0.0.1/' {DATA}/configs/vm.*.args >{DATA}/configs/vm.2000.01.01.00.00.00.args")
    assert "'other@127.0.0.1' not responding" in m.run("emqx ping", check=False).stderr
    m.run(f"touch -d 2000-01-01 {DATA}/configs/vm.2000*")
    m.run("sed -i 's/^node.name = .*/node.name = other@127.0.0.1/' /etc/emqx/emqx.conf")
    assert m.run("emqx ping").stdout == "pong\n"


def test_facts_3_4_newest_three_configurations_are_kept(started):
    m = started()
    for _ in range(4):
        m.run("systemctl stop emqx")
        start(m)
    names = m.run(f"ls {DATA}/configs").stdout.split()
    assert len([n for n in names if re.fullmatch(r"vm(\.\d+){6}\.args", n)]) == 3
    assert len([n for n in names if re.fullmatch(r"app(\.\d+){6}\.config", n)]) == 3


def test_facts_3_4_cookie_file(started):
    m = started()
    assert stat(m, f"{DATA}/.erlang.cookie") == "400 emqx emqx"
    m.run(f"chmod 0444 {DATA}/.erlang.cookie")
    result = m.run("emqx ping", check=False)
    assert result.returncode != 0 and "must be accessible by owner only" in result.stdout + result.stderr
    m.run(f"chmod 0400 {DATA}/.erlang.cookie; chown root:root {DATA}/.erlang.cookie")
    result = m.run("emqx ping", check=False)
    assert result.returncode != 0 and "eacces" in result.stdout + result.stderr


def test_facts_3_4_node_name_decides_the_mnesia_directory(started):
    m = started()
    m.run("mosquitto_pub -q 1 -r -t a -m kept; systemctl stop emqx")
    m.run("sed -i 's/^node.name = .*/node.name = other@127.0.0.1/' /etc/emqx/emqx.conf")
    start(m)
    ready(m)
    assert sorted(m.run(f"ls {DATA}/mnesia").stdout.split()) == ["emqx@127.0.0.1", "other@127.0.0.1"]
    assert m.run("mosquitto_sub -t '#' -W 1", check=False).stdout == ""
    command = m.run("tr '\\0' ' ' </proc/$(emqx pid)/cmdline").stdout
    assert '-mnesia dir "/var/lib/emqx/mnesia/other@127.0.0.1"' in command


def test_facts_3_4_data_dir_does_not_move_mnesia(installed):
    m = installed()
    m.run("mkdir /srv/data; chown emqx /srv/data; sed -i 's|^node.data_dir = .*|node.data_dir = /srv/data|' /etc/emqx/emqx.conf")
    start(m)
    assert m.exists(f"{DATA}/mnesia/emqx@127.0.0.1/schema.DAT") and not m.exists("/srv/data/mnesia")


@pytest.mark.parametrize("variant, checked", [("4.3.12", False), ("4.3.22", True)])
def test_facts_3_4_name_with_a_dot_is_refused_by_later_scripts(installed, variant, checked):
    m = installed(variant)
    m.run("sed -i 's/^node.name = .*/node.name = a.b@127.0.0.1/' /etc/emqx/emqx.conf")
    result = m.run(f"{SU} 'WAIT_FOR_ERLANG=2 emqx start'", check=False)
    assert ("Invalid node name: a.b@127.0.0.1" in result.stderr) is checked
    assert ("Exec: " in erlang_log(m)) is not checked


def test_facts_3_4_pipes_are_fifos_in_the_data_directory(node):
    fifos = node.run(f"find {DATA}/emqx_erl_pipes/emqx@127.0.0.1 -type p -printf '%f\\n'").stdout.split()
    assert sorted(fifos) == ["erlang.pipe.1.r", "erlang.pipe.1.w"]


def test_facts_3_4_distribution_port_without_epmd(node):
    assert node.run("bash -c ': </dev/tcp/127.0.0.1/4370'").returncode == 0
    assert node.run("bash -c ': </dev/tcp/127.0.0.1/4369'", check=False).returncode != 0


def test_facts_3_5_environment_of_the_unit(installed):
    m = installed()
    m.write("/etc/systemd/system/emqx.service.d/own.conf",
            "[Service]\nEnvironment=EMQX_NODE__NAME=env1@127.0.0.1 EMQX_LISTENER__TCP__EXTERNAL=2883 EMQX_NO__SUCH=1\n")
    start(m)
    ready(m)
    assert "'env1@127.0.0.1'" in m.run("emqx_ctl status").stdout
    assert m.run("mosquitto_pub -p 2883 -t a -m b").returncode == 0
    assert m.run("bash -c ': </dev/tcp/127.0.0.1/4371'").returncode == 0
