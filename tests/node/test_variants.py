# SPDX-License-Identifier: Apache-2.0
"""Variants that are bad in one way, and how variants are built."""

import re
import subprocess

import pytest

from fidelity import SU, check_conf, dpkg, erlang_log, field, node_pids, start, stat


def test_facts_5_2_port_opens_before_the_node_is_ready(installed):
    """The unit is active, clients are let in, and the node is not ready: here it never will be."""
    m = installed("4.4.0-never-ready")
    start(m)
    assert m.run("mosquitto_pub -t a -m b").returncode == 0
    assert m.unit("emqx")["ActiveState"] == "active"
    assert m.run("emqx_ctl status", check=False).returncode == 1
    assert "is running now!" not in erlang_log(m)
    assert m.run("curl -s http://127.0.0.1:8081/status", check=False).returncode == 7
    assert m.run("systemctl stop emqx").returncode == 0 and node_pids(m) == []


def test_variant_no_start_ends_at_once(installed):
    m = installed("4.4.0-no-start")
    m.run(f"{SU} 'WAIT_FOR_ERLANG=3 emqx start'", check=False)
    m.wait_until(lambda: "Kernel pid terminated" in erlang_log(m))
    m.wait_until(lambda: node_pids(m) == [])
    assert "is running now!" not in erlang_log(m)


def test_variant_dies_after_it_was_ready(installed):
    m = installed("4.4.0-dies")
    start(m, check=False)
    m.wait_until(lambda: "is running now!" in erlang_log(m))
    m.wait_until(lambda: m.unit("emqx")["SubState"] == "auto-restart" and node_pids(m) == [])


def test_variant_mute_accepts_and_says_nothing(started):
    m = started("4.4.0-mute")
    assert m.run("timeout 2 mosquitto_pub -t a -m b", check=False).returncode == 124
    assert "emqx is running" in m.run("curl -s http://127.0.0.1:8081/status").stdout


@pytest.mark.parametrize("variant, command, without, with_", [
    ("4.4.0-plugin-missing", "emqx_ctl plugins list", "emqx_recon, description=.*, active=true", "active=true"),
    ("4.4.0-listener-missing", "emqx_ctl listeners", "mqtt:tcp:internal", "mqtt:tcp:external"),
    ("4.4.0-alarm", "emqx eval 'emqx_alarm:get_alarms(activated)'", r"\[\]", "high_cpu_usage"),
    ("4.4.0-logs-error", "cat /var/log/emqx/emqx.log.1", "nothing", r"\[error\] .*cannot do it")])
def test_variants_that_are_ready_and_not_well(started, variant, command, without, with_):
    said = started(variant).run(command).stdout
    assert not re.search(without, said) and re.search(with_, said)


def test_variant_bad_postinst(machine_factory, node_packages):
    m = machine_factory()
    result = dpkg(m, node_packages, "4.4.0-bad-postinst", check=False)
    assert result.returncode == 1 and not m.exists("/usr/bin/emqx")
    assert stat(m, "/etc/emqx/emqx.conf") == "644 emqx emqx"


def test_variant_rejects_conf_of_4_3_12_and_not_its_own(installed, node_packages):
    m = installed("4.3.12")
    m.run("cp /etc/emqx/emqx.conf /root/old.conf")
    dpkg(m, node_packages, "4.4.0-rejects-conf", "--force-confnew")
    new, old = (check_conf(m, m.read(f), "4.4.0") for f in ("/etc/emqx/emqx.conf", "/root/old.conf"))
    assert new.returncode == 0 and old.returncode == 1 and "alarm.actions" in old.stdout


@pytest.mark.parametrize("variant, says", [("4.4.0-depends", "libnosuch1"), ("4.4.0-arm64", "architecture")])
def test_variant_that_dpkg_refuses(machine_factory, node_packages, variant, says):
    m = machine_factory()
    result = dpkg(m, node_packages, variant, check=False)
    assert result.returncode == 1 and says in result.stderr


def test_variants_of_one_version_share_name_and_version(node_packages):
    for variant in (p.name for p in node_packages.glob("4.4.0-*")):
        assert (field(node_packages, variant, "Package"), field(node_packages, variant, "Version")) == ("emqx", "4.4.0")


def test_build_node_leaves_alone_what_is_there(node_packages):
    before = {p: p.stat().st_mtime_ns for p in node_packages.rglob("*emqx*")}
    program = [__file__.replace("test_variants.py", "build-node"), "--out", node_packages, "--all"]
    subprocess.run(program, check=True)
    assert {p: p.stat().st_mtime_ns for p in node_packages.rglob("*emqx*")} == before
