# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of configuration and data; its section is in the name."""

import re
import subprocess

import pytest

from fidelity import DATA, check_conf, deb, emqx_log, erlang_log, ready, start


@pytest.mark.parametrize("text, key, value", [
    ("node.name = a@b\r\nlog.to=both\r\n", "node.name", "a@b"), ("\tlog.to =  both \t\n", "log.to", "both"),
    ("log.to = both\nlog.to = file\n", "log.to", "file"), ("node.cookie = a = b # c \"d\"\n", "node.cookie", 'a = b # c "d"'),
    ("  # log.to = both\n\n{{ x }}\n", "log.to", "file"), ("node.cookie = end ", "node.cookie", "end "),
    ("cluster.name = x\nnode.cookie = $(cluster.name)y\n", "node.cookie", "xy")])
def test_facts_3_6_grammar(node, text, key, value):
    result = check_conf(node, text, verb=f"get {key}")
    assert (result.returncode, result.stdout) == (0, value + "\n")


def test_facts_3_6_values_are_latin1(node):
    assert check_conf(node, "node.cookie = ä\n").returncode == 0
    assert check_conf(node, "node.cookie = 日\n").returncode == 1


def test_facts_3_6_included_values_lose(node):
    node.write("/var/tmp/inc.conf", "log.to = both\nlog.level = debug\n")
    assert check_conf(node, "include /var/tmp/inc.conf\nlog.to = console\n", verb="get log.to").stdout == "console\n"
    assert check_conf(node, "include /var/tmp/inc.conf\nlog.to = console\n", verb="get log.level").stdout == "debug\n"


@pytest.mark.parametrize("text", ["log.to\n", "log.to =\n", "log to = x\n", "log.to = both\ngarbage\n"])
def test_facts_3_6_syntax_error(node, text):
    result = check_conf(node, text)
    assert result.returncode == 1
    assert re.search(r"Syntax error in /var/tmp/try.conf after line \d+ column \d+, parsing incomplete", result.stdout)


@pytest.mark.parametrize("line", ["log.rotation = yes", "mqtt.retain_available = on", "log.rotation.count = x",
                                  "mqtt.max_packet_size = 1QB", "log.level = loud", "acl_cache_ttl = 1y"])
def test_facts_3_6_value_of_the_wrong_type(node, line):
    result = check_conf(node, line + "\n")
    assert result.returncode == 1 and "Error generating configuration in phase transform_datatypes" in result.stdout


def test_facts_3_6_generate_says_where(node):
    result = check_conf(node, "acl_cache_ttl = 1m30s\n")
    assert result.returncode == 0
    assert re.fullmatch(r" -config /var/tmp/try/app\S+ -args_file /var/tmp/try/vm\S+ -vm_args /var/tmp/try/vm\S+ ", result.stdout.splitlines()[-1])


def test_facts_3_6_unknown_key_is_fatal_and_told_in_erlang_log_alone(installed):
    m = installed("4.4.0")
    m.run("echo 'no.such.key = 1' >>/etc/emqx/emqx.conf")
    m.write("/etc/systemd/system/emqx.service.d/t.conf", "[Service]\nTimeoutStartSec=6s\n")
    assert start(m, check=False).returncode == 1
    assert m.unit("emqx")["Result"] == "timeout", "the script waits on, systemd does not"
    m.run("systemctl stop emqx")
    log = erlang_log(m)
    assert "[error] You've tried to set no.such.key, but there is no setting with that name." in log
    assert "Error generating configuration in phase transform_datatypes" in log
    assert "Conf file attempted to set unknown variable: no.such.key" in log
    assert "no.such.key" not in m.run("journalctl --no-pager -u emqx").stdout
    assert "no.such.key" not in emqx_log(m)


def test_facts_3_6_plugin_with_an_unknown_key_is_absent(installed):
    m = installed()
    m.run("echo 'retainer.nonsense = 1' >>/etc/emqx/plugins/emqx_retainer.conf")
    start(m)
    ready(m)
    assert "Plugin(emqx_retainer, description=EMQ X Retainer, active=false)" in m.run("emqx_ctl plugins list").stdout
    assert "[alert] Plugin emqx_retainer load failed with" in emqx_log(m)


def test_facts_3_6_plugin_without_a_file_takes_its_own_default(installed):
    m = installed()
    m.run("rm /etc/emqx/plugins/emqx_management.conf")
    start(m)
    ready(m)


def test_facts_4_1_packaged_data(installed):
    m = installed()
    assert m.run(f"cd {DATA} && ls -A").stdout.split() == ["configs", "loaded_modules", "loaded_plugins", "mnesia", "patches", "scripts"]
    assert "{emqx_modules, false}." in m.read(f"{DATA}/loaded_plugins").splitlines()
    assert m.read(f"{DATA}/loaded_modules") == "{emqx_mod_acl_internal, true}.\n{emqx_mod_presence, true}.\n"


def test_facts_4_1_hot_patches_shadow_code(installed, tmp_path):
    m = installed()
    tmp_path.joinpath("emqx_alarm.erl").write_text(
        "-module(emqx_alarm).\n-export([new/0, get_alarms/1]).\nnew() -> ok.\nget_alarms(_) -> [patched].\n")
    subprocess.run(["erlc", "-o", tmp_path, tmp_path / "emqx_alarm.erl"], check=True)
    m.push(tmp_path / "emqx_alarm.beam", f"{DATA}/patches")
    start(m)
    ready(m)
    assert m.run("emqx eval 'emqx_alarm:get_alarms(activated)'").stdout == "[patched]\n"


def test_facts_4_1_missing_loaded_plugins_is_created_empty(installed):
    m = installed()
    m.run(f"rm {DATA}/loaded_plugins")
    start(m)
    m.wait_until(lambda: "is running now!" in erlang_log(m))
    assert m.read(f"{DATA}/loaded_plugins") == ""
    assert m.run("emqx_ctl status", check=False).returncode == 1


@pytest.mark.parametrize("variant, recreated", [("4.4.0", False), ("4.4.11", True)])
def test_facts_4_1_missing_loaded_modules(installed, variant, recreated):
    m = installed(variant)
    m.run(f"rm {DATA}/loaded_modules")
    start(m)
    ready(m)
    assert f'[alert] Failed to read: "{DATA}/loaded_modules", error: enoent' in emqx_log(m)
    assert m.exists(f"{DATA}/loaded_modules") is recreated
    assert ("active=true" in m.run("emqx_ctl modules list").stdout) is recreated


def test_facts_4_1_unknown_plugin_is_told_and_ignored(installed):
    m = installed()
    m.run(f"echo 'emqx_nonsense.' >>{DATA}/loaded_plugins")
    start(m)
    ready(m)
    assert "[alert] cannot_find_plugins: [emqx_nonsense]" in emqx_log(m)


def test_facts_4_2_etc_has_the_same_files_in_all_releases(node_packages, tmp_path):
    listings = []
    for variant in ("4.3.12", "4.3.22", "4.4.0", "4.4.11"):
        subprocess.run(["dpkg-deb", "-x", deb(node_packages, variant), tmp_path / variant], check=True)
        etc = tmp_path / variant / "etc/emqx"
        listings.append(sorted(str(p.relative_to(etc)) for p in etc.rglob("*") if p.is_file()))
    assert all(listing == listings[0] for listing in listings)
    assert len([name for name in listings[0] if re.fullmatch(r"plugins/\w+\.conf", name)]) == 27


@pytest.mark.parametrize("source, target, refused", [
    ("4.3.12", "4.4.0", []),
    ("4.3.22", "4.4.0", ["acl_order", "auth_order", "mqtt.exclusive_subscription", "node.dist_use_interface"]),
    ("4.3.22", "4.4.11", []), ("4.3.12", "4.4.11", []), ("4.4.0", "4.3.12", []),
    ("4.4.11", "4.3.12", ["acl_order", "auth_order", "crl_cache_http_timeout", "crl_cache_refresh_interval",
                          "mqtt.exclusive_subscription", "node.dist_use_interface"]),
    ("4.4.11", "4.3.22", ["crl_cache_http_timeout", "crl_cache_refresh_interval"])])
def test_facts_4_3_default_configuration_against_other_schemas(node, node_packages, tmp_path, source, target, refused):
    """As a preflight would: the new package is unpacked elsewhere, and its own runtime, check and schema are used."""
    subprocess.run(["dpkg-deb", "-x", deb(node_packages, source), tmp_path], check=True)
    node.push(tmp_path / "etc/emqx/emqx.conf", "/var/tmp/stock.conf")
    node.push(deb(node_packages, target), "/var/tmp/target.deb")
    node.run("rm -rf /var/tmp/aside /var/tmp/out; dpkg-deb -x /var/tmp/target.deb /var/tmp/aside; install -d -o emqx /var/tmp/out")
    result = node.run(f"cd /var/tmp/aside/usr/lib/emqx && HOME={DATA} erts-*/bin/escript bin/cuttlefish -i releases/{target}/emqx.schema "
                      "-c /var/tmp/stock.conf -d /var/tmp/out generate", check=False, user="emqx")
    assert result.returncode == (1 if refused else 0), result.stdout
    assert sorted(re.findall("attempted to set unknown variable: (.*)", result.stdout)) == refused
    assert sorted(re.findall("You've tried to set ([^,]*),", result.stdout)) == refused
