# SPDX-License-Identifier: Apache-2.0
"""One test for each fact of the .rpm, with its section in the name: scripts, layout, what the real rpm does with it."""

import re
import subprocess

import pytest

import kinds
from fidelity import DATA, LOG, node_pids, ready, start, stat
from machine.machine import Machine
from machine.root import debian

NVRA = "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}"


def query(packages, variant, *options):
    """Of the file, on this host; its database is not asked."""
    file = kinds.package(packages, variant, "rpm")
    return subprocess.run(["rpm", "-qp", *options, file], check=True, capture_output=True, text=True).stdout.splitlines()


def rpm(m, packages, variant, *options, check=True):
    m.push(kinds.package(packages, variant, "rpm"), f"/root/{variant}.rpm")
    return m.run(["rpm", *options, f"/root/{variant}.rpm"], check=check)


@pytest.fixture
def installed(machine_factory, node_packages):
    """installed(variant): a machine with the package and without a start."""
    def make(variant="4.3.12"):
        m = machine_factory()
        kinds.install(m, node_packages, "rpm", variant)
        return m
    return make


@pytest.fixture
def started(installed):
    m = installed()
    start(m)
    ready(m)
    return m


@pytest.fixture(scope="module")
def node(node_packages):
    """4.3.12 without a start, for tests that leave it as it is."""
    with Machine(debian()) as m:
        kinds.install(m, node_packages, "rpm", "4.3.12")
        yield m


# --- the file ---


@pytest.mark.parametrize("variant, name, nvra", [
    ("4.3.22", "emqx-centos8-4.3.22-amd64.rpm", "emqx-4.3.22-1.el8.x86_64"),
    ("4.4.0", "emqx-4.4.0-otp24.1.5-3-el8-amd64.rpm", "emqx-4.4.0-otp24.1.5_3.el8.x86_64"),
    ("4.4.0-arm64", "emqx-4.4.0-otp24.1.5-3-el8-arm64.rpm", "emqx-4.4.0-otp24.1.5_3.el8.aarch64"),
    ("ee-4.4.0", "emqx-ee-4.4.0-otp24.1.5-3-el8-amd64.rpm", "emqx-ee-4.4.0-otp24.1.5_3.el8.x86_64")])
def test_facts_1_1_rpm_names(node_packages, variant, name, nvra):
    assert kinds.package(node_packages, variant, "rpm").name == name
    assert query(node_packages, variant, "--qf", NVRA) == [nvra]


@pytest.mark.parametrize("variant, end", [("4.3.12", "\n"), ("4.4.0", "")])
def test_facts_1_1_rpm_checksum_is_bare_and_right(node_packages, variant, end):
    file = kinds.package(node_packages, variant, "rpm")
    text = file.with_name(file.name + ".sha256").read_text()
    assert re.fullmatch("[0-9a-f]{64}" + end, text)
    assert subprocess.run(["sha256sum", file], check=True, capture_output=True, text=True).stdout.split()[0] == text.strip()


@pytest.mark.parametrize("variant, required", [
    ("4.3.12", {"libatomic"}), ("4.4.0", {"libatomic"}), ("4.3.22", {"libatomic", "procps", "which", "findutils"}),
    ("4.4.11", {"libatomic", "procps", "which", "findutils"})])
def test_facts_1_3_requires_no_library_by_itself(node_packages, variant, required):
    assert {r for r in query(node_packages, variant, "--requires") if not r.startswith(("rpmlib(", "/bin/sh"))} == required


def test_facts_1_3_all_editions_provide_emqx(node_packages):
    assert "emqx" in query(node_packages, "4.3.12", "--provides")
    assert "emqx" in query(node_packages, "ee-4.3.12", "--provides")


def test_facts_1_3_scripts(node_packages):
    scripts = [line for line in query(node_packages, "4.4.0", "--scripts") if "scriptlet (" in line]
    assert [line.split()[0] for line in scripts] == ["preinstall", "postinstall", "preuninstall", "postuninstall"]


def test_facts_1_3_what_is_configuration(node_packages):
    listed = query(node_packages, "4.4.0", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags} %{FILEMODES:perms}\n]")
    files = [line.split() for line in listed if line.split()[-1].startswith("-")]
    noreplace = {words[0] for words in files if words[1] == "cn"}
    assert noreplace == {words[0] for words in files if words[0].startswith(("/etc/emqx/", "/var/lib/emqx/"))}
    assert {"/etc/emqx/emqx.conf", "/etc/emqx/certs/key.pem", f"{DATA}/loaded_plugins", f"{DATA}/loaded_modules"} <= noreplace
    assert not any("/var/run" in words[0] for words in files)


# --- what an installation leaves ---


def test_facts_1_3_owners_and_modes(node):
    for path in (DATA, LOG, "/etc/emqx/certs", f"{DATA}/mnesia", "/usr/lib/emqx", "/usr/lib/emqx/bin"):
        assert stat(node, path) == "755 emqx emqx", path
    assert stat(node, "/usr/lib/systemd/system/emqx.service") == "644 root root"
    assert stat(node, "/etc/emqx") == "755 root root", "it is nobody's, and rpm makes it on its way"
    assert "not owned by any package" in node.run("rpm -qf /etc/emqx /usr/bin/emqx", check=False).stdout
    assert node.run("rpm -qf /etc/emqx/emqx.conf").stdout == "emqx-4.3.12-1.el8.x86_64\n"


def test_facts_1_3_pre_makes_a_user_with_the_skeleton_in_its_home(node):
    assert node.run("getent passwd emqx").stdout.split(":")[5] == DATA
    skeleton = [p.name for p in node.path("/etc/skel").iterdir()]
    assert skeleton and set(skeleton) <= {p.name for p in node.path(DATA).iterdir()}


def test_facts_1_3_post_links_and_enables_and_starts_nothing(node):
    assert node.run("readlink /usr/bin/emqx /usr/bin/emqx_ctl").stdout.split() == [
        "/usr/lib/emqx/bin/emqx", "/usr/lib/emqx/bin/emqx_ctl"]
    assert node.run("systemctl is-enabled emqx").stdout == "enabled\n"
    assert node.unit("emqx")["ActiveState"] == "inactive" and node_pids(node) == []


def test_facts_1_3_link_that_is_left_over_is_told_and_stays(machine_factory, node_packages):
    m = machine_factory()
    kinds.init_rpm(m, node_packages)
    m.run("ln -s /nowhere /usr/bin/emqx")
    result = rpm(m, node_packages, "4.3.12", "-i")
    assert "/usr/bin/emqx': File exists" in result.stderr
    assert m.run("readlink /usr/bin/emqx").stdout == "/nowhere\n" and m.exists("/usr/bin/emqx_ctl")
    assert m.run("systemctl is-enabled emqx").stdout == "enabled\n"


def test_facts_1_3_masked_unit_is_a_warning(machine_factory, node_packages):
    m = machine_factory()
    kinds.init_rpm(m, node_packages)
    m.run("systemctl mask emqx")
    assert "masked" in rpm(m, node_packages, "4.3.12", "-i").stderr
    assert m.run("rpm -q emqx").stdout == "emqx-4.3.12-1.el8.x86_64\n"
    assert m.run("systemctl is-enabled emqx", check=False).stdout == "masked\n"
    assert not m.exists("/etc/systemd/system/multi-user.target.wants/emqx.service")


def test_facts_1_3_unmet_requirement(machine_factory, node_packages):
    m = machine_factory()
    m.run("rpm --initdb")
    refused = rpm(m, node_packages, "4.3.12", "-i", "--test", check=False)
    assert refused.returncode != 0
    assert "Failed dependencies" in refused.stderr and "libatomic is needed by emqx-4.3.12-1.el8.x86_64" in refused.stderr
    kinds.init_rpm(m, node_packages)
    assert "libnosuch1 >= 1.0 is needed by" in rpm(m, node_packages, "4.4.0-depends", "-i", check=False).stderr
    assert "different architecture" in rpm(m, node_packages, "4.4.0-arm64", "-i", check=False).stderr
    assert rpm(m, node_packages, "4.3.12", "-i", "--test").returncode == 0


# --- upgrade ---


def test_facts_1_3_upgrade_stops_nothing_and_takes_the_code_away(started, node_packages):
    m, pids = started, node_pids(started)
    rpm(m, node_packages, "4.4.0", "-U")
    assert m.run("rpm -q emqx").stdout == "emqx-4.4.0-otp24.1.5_3.el8.x86_64\n"
    assert node_pids(m) == pids and m.unit("emqx")["SubState"] == "running"
    assert not m.exists("/usr/lib/emqx/lib/emqx-4.3.12") and m.exists("/usr/lib/emqx/lib/emqx-4.4.0")
    assert m.run("readlink -e /usr/bin/emqx /usr/bin/emqx_ctl").returncode == 0
    assert m.exists(f"{DATA}/mnesia/emqx@127.0.0.1/schema.DAT")


def test_facts_1_3_upgrade_keeps_what_was_modified(installed, node_packages):
    m = installed()
    for path in ("/etc/emqx/emqx.conf", "/etc/emqx/psk.txt", f"{DATA}/loaded_plugins"):
        m.run(f"echo '# mine' >>{path}")
    m.run("systemctl disable emqx")
    rpm(m, node_packages, "4.4.0", "-U")
    for path in ("/etc/emqx/emqx.conf", "/etc/emqx/psk.txt", f"{DATA}/loaded_plugins"):
        assert m.read(path).endswith("# mine\n"), path
    assert m.exists("/etc/emqx/emqx.conf.rpmnew"), "its default has changed"
    assert not m.exists("/etc/emqx/psk.txt.rpmnew") and not m.exists(f"{DATA}/loaded_plugins.rpmnew"), "theirs have not"
    assert m.run("systemctl is-enabled emqx").stdout == "enabled\n", "%post undoes a disable"


def test_facts_1_3_downgrade_has_to_be_asked_for(installed, node_packages):
    m = installed("4.4.0")
    refused = rpm(m, node_packages, "4.3.12", "-U", check=False)
    assert refused.returncode != 0
    assert ("package emqx-4.4.0-otp24.1.5_3.el8.x86_64 (which is newer than emqx-4.3.12-1.el8.x86_64) is already installed"
            in refused.stderr)
    rpm(m, node_packages, "4.3.12", "-U", "--oldpackage")
    assert m.run("rpm -q emqx").stdout == "emqx-4.3.12-1.el8.x86_64\n"


def test_facts_1_3_second_installation_beside_the_first_conflicts(node, node_packages):
    refused = rpm(node, node_packages, "4.4.0", "-i", check=False)
    assert refused.returncode != 0 and "conflicts with file from package emqx-4.3.12-1.el8.x86_64" in refused.stderr
    assert "is already installed" in rpm(node, node_packages, "4.3.12", "-i", check=False).stderr


# --- erasure ---


def test_facts_1_3_erasure_stops_disables_and_saves_what_was_modified(started):
    m = started
    m.run(f"echo '## mine' >>/etc/emqx/emqx.conf; echo '% mine' >>{DATA}/loaded_plugins; echo own >/etc/emqx/own.conf")
    m.run("rpm -e emqx")
    assert node_pids(m) == []
    assert not m.exists("/etc/systemd/system/multi-user.target.wants/emqx.service")
    assert not m.exists("/usr/bin/emqx") and not m.exists("/usr/bin/emqx_ctl") and not m.exists("/usr/lib/emqx")
    etc = {str(p.relative_to(m.path("/etc/emqx"))) for p in m.path("/etc/emqx").rglob("*")}
    assert etc == {"emqx.conf.rpmsave", "own.conf"}, "what was not modified is gone"
    assert "## mine" in m.read("/etc/emqx/emqx.conf.rpmsave")
    data = {p.name for p in m.path(DATA).iterdir()}
    assert {"loaded_plugins.rpmsave", "mnesia", "configs", ".erlang.cookie", "emqx_erl_pipes"} <= data
    assert not {"loaded_plugins", "loaded_modules", "patches", "scripts"} & data
    assert m.exists(f"{DATA}/mnesia/emqx@127.0.0.1/schema.DAT")
    assert m.run("getent passwd emqx").returncode == 0, "the user stays"


def test_facts_1_3_installation_after_that_is_a_fresh_node(started, node_packages):
    m = started
    m.run("sed -i 's/^node.name = .*/node.name = own@127.0.0.1/' /etc/emqx/emqx.conf; rpm -e emqx")
    rpm(m, node_packages, "4.4.0", "-i")
    assert m.read("/etc/emqx/emqx.conf.rpmsave").count("node.name = own@127.0.0.1\n") == 1
    assert "node.name = emqx@127.0.0.1\n" in m.read("/etc/emqx/emqx.conf")
    start(m)
    ready(m)
    assert m.run("emqx_ctl status").stdout == "Node 'emqx@127.0.0.1' 4.4.0 is started\n"


def test_facts_1_3_second_erasure_overwrites_what_the_first_has_saved(installed, node_packages):
    m = installed()
    for text in ("first", "second"):
        m.run(f"echo '## {text}' >>/etc/emqx/emqx.conf; rpm -e emqx")
        if text == "first":
            rpm(m, node_packages, "4.3.12", "-i")
    saved = m.read("/etc/emqx/emqx.conf.rpmsave")
    assert "## second" in saved and "## first" not in saved


# --- variants ---


def test_variant_bad_postinst_fails_before_the_files(installed, node_packages):
    m = installed()
    result = rpm(m, node_packages, "4.4.0-bad-postinst", "-U", check=False)
    assert result.returncode != 0 and "emqx: something is wrong" in result.stderr
    assert m.run("rpm -q emqx").stdout == "emqx-4.3.12-1.el8.x86_64\n"
    assert m.exists("/usr/lib/emqx/lib/emqx-4.3.12") and not m.exists("/usr/lib/emqx/lib/emqx-4.4.0")


def test_variants_of_one_version_are_one_package_to_rpm(node_packages):
    for variant in (p.parent.name for p in node_packages.glob("4.4.0-*/*.rpm") if p.parent.name != "4.4.0-arm64"):
        assert query(node_packages, variant, "--qf", NVRA) == ["emqx-4.4.0-otp24.1.5_3.el8.x86_64"]
