# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of the .deb, with its section in the name: scripts, layout, what the real dpkg does with it."""

import re
import subprocess

import pytest

from fidelity import DATA, LOG, deb, dpkg, field, node_pids, stat


@pytest.mark.parametrize("variant, name", [
    ("4.3.22", "emqx-ubuntu20.04-4.3.22-amd64.deb"), ("4.4.0", "emqx-4.4.0-otp24.1.5-3-ubuntu20.04-amd64.deb")])
def test_facts_1_1_file_names_and_metadata(node_packages, variant, name):
    assert deb(node_packages, variant).name == name
    assert field(node_packages, variant, "Package") == "emqx"
    assert field(node_packages, variant, "Version") == variant
    assert field(node_packages, variant, "Architecture") == "amd64"


@pytest.mark.parametrize("variant, end", [("4.3.12", "\n"), ("4.4.0", "")])
def test_facts_1_1_checksum_is_bare_and_right(node_packages, variant, end):
    file = deb(node_packages, variant)
    text = file.with_name(file.name + ".sha256").read_text()
    assert re.fullmatch("[0-9a-f]{64}" + end, text)
    assert subprocess.run(["sha256sum", file], check=True, capture_output=True, text=True).stdout.split()[0] == text.strip()


def test_facts_1_1_editions_share_a_version_but_no_name(node_packages):
    assert field(node_packages, "ee-4.3.12", "Package") == "emqx-ee"
    assert field(node_packages, "ee-4.3.12", "Version") == "4.3.12"


def test_facts_1_2_maintainer_scripts_are_postinst_and_postrm_alone(node_packages, tmp_path):
    subprocess.run(["dpkg-deb", "-e", deb(node_packages, "4.4.0"), tmp_path], check=True)
    assert {p.name for p in tmp_path.iterdir()} == {"control", "conffiles", "md5sums", "postinst", "postrm"}


def test_facts_1_2_every_regular_file_below_etc_is_a_conffile(node_packages, tmp_path):
    subprocess.run(["dpkg-deb", "-R", deb(node_packages, "4.4.0"), tmp_path], check=True)
    files = sorted(f"/{p.relative_to(tmp_path)}" for p in tmp_path.joinpath("etc").rglob("*") if p.is_file())
    assert tmp_path.joinpath("DEBIAN/conffiles").read_text().splitlines() == files
    assert "/etc/emqx/emqx.conf" in files and "/etc/emqx/plugins/acl.conf.paho" in files
    assert tmp_path.joinpath("etc/init.d").is_dir()
    assert not list(tmp_path.joinpath("etc/init.d").iterdir())


def test_facts_1_2_postinst_makes_user_links_and_enables(installed):
    m = installed()
    assert m.run("getent passwd emqx").stdout.split(":")[5:] == ["/var/lib/emqx", "/bin/bash\n"]
    assert m.run("readlink /usr/bin/emqx /usr/bin/emqx_ctl").stdout.split() == [
        "/usr/lib/emqx/bin/emqx", "/usr/lib/emqx/bin/emqx_ctl"]
    assert m.run("systemctl is-enabled emqx").stdout.strip() == "enabled"
    assert node_pids(m) == [] and m.unit("emqx")["ActiveState"] == "inactive"
    assert m.run("dpkg -S /usr/bin/emqx", check=False).returncode != 0


def test_facts_1_2_postinst_widens_modes_to_0644_and_chowns(installed, node_packages):
    m = installed()
    m.run("chmod 0600 /etc/emqx/emqx.conf; mkdir /etc/emqx/own; echo x >/etc/emqx/own/key; chmod 0600 /etc/emqx/own/key")
    dpkg(m, node_packages, "4.4.0", "--force-confold")
    assert stat(m, "/etc/emqx/emqx.conf") == "644 emqx emqx"
    assert stat(m, "/etc/emqx/own") == "755 emqx emqx"
    assert stat(m, "/etc/emqx/own/key") == "600 emqx emqx"


def test_facts_1_2_postinst_undoes_disable(installed, node_packages):
    m = installed()
    m.run("systemctl disable emqx")
    dpkg(m, node_packages, "4.4.0")
    assert m.run("systemctl is-enabled emqx").stdout.strip() == "enabled"


def test_facts_1_2_postinst_fails_when_the_unit_is_masked(installed, node_packages):
    m = installed()
    m.run("systemctl mask --runtime emqx")
    result = dpkg(m, node_packages, "4.4.0", check=False)
    assert result.returncode == 1 and "masked" in result.stderr
    assert m.run("dpkg-query -W -f '${Status}' emqx").stdout == "install ok half-configured"


def test_facts_1_2_postinst_fails_on_a_dangling_link(installed, node_packages):
    m = installed()
    m.run("ln -sfn /nowhere /usr/bin/emqx")
    assert dpkg(m, node_packages, "4.4.0", check=False).returncode == 1


def test_facts_1_2_install_overwrites_loaded_files_and_drops_the_old_code(started, node_packages):
    m = started()
    m.run(f"echo '{{emqx_management, true}}.' >{DATA}/loaded_plugins")
    mnesia = m.run(f"ls {DATA}/mnesia/emqx@127.0.0.1").stdout
    dpkg(m, node_packages, "4.4.0")
    assert "emqx_rule_engine" in m.read(f"{DATA}/loaded_plugins")
    assert m.run(f"ls {DATA}/mnesia/emqx@127.0.0.1").stdout == mnesia
    assert not m.exists("/usr/lib/emqx/lib/emqx-4.3.12")
    assert len(node_pids(m)) > 0, "nothing stops the node"


def test_facts_1_2_changed_conffile_and_nobody_to_ask(installed, node_packages):
    m = installed()
    m.run("echo '## mine' >>/etc/emqx/emqx.conf")
    result = dpkg(m, node_packages, "4.4.0", check=False)
    assert result.returncode == 1 and "end of file on stdin at conffile prompt" in result.stderr
    assert m.run("dpkg-query -W -f '${Status}' emqx").stdout == "install ok unpacked"
    m.run("dpkg --force-confold --configure -a")
    assert "## mine" in m.read("/etc/emqx/emqx.conf") and m.exists("/etc/emqx/emqx.conf.dpkg-dist")


def test_facts_1_2_remove_keeps_conffiles_and_a_running_node(started):
    m = started()
    pids = node_pids(m)
    m.run("dpkg -r emqx")
    assert m.run("dpkg-query -W -f '${Status}' emqx").stdout == "deinstall ok config-files"
    assert m.exists("/etc/emqx/emqx.conf") and not m.exists("/usr/bin/emqx") and not m.exists("/usr/bin/emqx_ctl")
    assert sorted(p.name for p in m.path(DATA).iterdir()) == [".erlang.cookie", "configs", "emqx_erl_pipes", "mnesia"]
    assert set(pids) & set(node_pids(m)), "the VM keeps running from deleted files"


def test_facts_1_2_remove_fails_where_a_link_is_missing(installed):
    m = installed()
    m.run("rm /usr/bin/emqx")
    assert m.run("dpkg -r emqx", check=False).returncode != 0


def test_facts_1_2_purge_takes_everything(started):
    m = started()
    m.run("systemctl stop emqx")
    m.run("dpkg --purge emqx", check=False)
    for path in ("/etc/emqx", DATA, LOG, "/usr/lib/emqx", "/var/run/emqx", "/usr/bin/emqx"):
        assert m.run(["test", "-e", path], check=False).returncode == 1, path
    assert m.run("getent passwd emqx", check=False).returncode != 0


def test_facts_1_2_conffiles_that_were_taken_away_are_not_recreated(installed, node_packages):
    m = installed()
    m.run("dpkg -r emqx; mv /etc/emqx /root/etc-emqx")
    dpkg(m, node_packages, "4.4.0", check=False)
    assert not m.exists("/etc/emqx/emqx.conf")
    dpkg(m, node_packages, "4.4.0", "--force-confmiss")
    assert m.exists("/etc/emqx/emqx.conf")


def test_facts_1_2_downgrade_is_allowed(installed, node_packages):
    m = installed("4.4.0")
    assert "downgrading" in dpkg(m, node_packages, "4.3.12").stderr
    assert m.run("dpkg-query -W -f '${Version}' emqx").stdout == "4.3.12"


def test_facts_2_1_owners_and_modes(node):
    for path in ("/etc/emqx", DATA, LOG, "/var/run/emqx", "/usr/lib/emqx/bin"):
        assert stat(node, path) == "755 emqx emqx", path
    assert stat(node, "/lib/systemd/system/emqx.service") == "644 root root"
    assert stat(node, "/usr/lib/emqx/bin/emqx") == "755 emqx emqx"
    for path in ("lib/emqx-4.3.12", "releases/4.3.12/emqx.schema", "releases/4.3.12/emqx.boot", "releases/RELEASES"):
        assert node.exists(f"/usr/lib/emqx/{path}"), path
    assert not node.exists("/usr/lib/emqx/etc") and not node.exists(f"{DATA}/data")


def test_facts_2_1_emqx_vars(node):
    text = node.read("/usr/lib/emqx/releases/emqx_vars")
    for line in ('REL_VSN="4.3.12"', 'RUNNER_ROOT_DIR="/usr/lib/emqx"', 'RUNNER_DATA_DIR="/var/lib/emqx"', 'RUNNER_USER="emqx"'):
        assert line in text.splitlines()


@pytest.mark.parametrize("variant, command, delay", [
    ("4.3.12", "/usr/bin/emqx start", "5s"), ("4.4.0", "/usr/bin/emqx start", "5s"),
    ("4.3.22", "/bin/bash /usr/bin/emqx start", "60s"), ("4.4.11", "/bin/bash /usr/bin/emqx start", "60s")])
def test_facts_2_3_unit(node_packages, tmp_path, variant, command, delay):
    subprocess.run(["dpkg-deb", "-x", deb(node_packages, variant), tmp_path], check=True)
    lines = tmp_path.joinpath("lib/systemd/system/emqx.service").read_text().splitlines()
    for line in (f"ExecStart={command}", f"RestartSec={delay}", "Restart=on-failure", "Type=forking", "User=emqx", "Group=emqx",
                 "Environment=HOME=/var/lib/emqx", "LimitNOFILE=1048576", "After=network.target", "WantedBy=multi-user.target"):
        assert line in lines
    assert not any(re.match("PIDFile|EnvironmentFile|Timeout|KillMode", line) for line in lines)
