# SPDX-License-Identifier: Apache-2.0
"""Our own package: it comes and goes without a trace, is replaced in the middle of an upgrade, and starts upgrades by what
others bring. And what else may be done with the node's package, past us."""

import hashlib
import subprocess

import kinds
from machine.cache import TOP
from upgrade import DONE, PACKAGES, ROLLED_BACK, STATE, assert_node_is, event_names, events, exit_status, start, status, wait_for_end

CONF = "/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf"

#: Keeps an upgrade at its step `drain`.
WAIT = "#!/bin/sh\n[ \"$1\" != drain ] || [ -e /run/go ] || exit 75\n"

#: What dpkg is to do with the node's package.
WANT = "dpkg-query -W -f '${db:Status-Want}' emqx"

#: Written by whatever runs, and not by our package.
OTHERS = ("/dev", "/proc", "/run", "/sys", "/tmp", "/root", "/var/log", "/var/cache", "/var/tmp", "/var/lib/dpkg", "/var/lib/systemd",
          "/etc/ld.so.cache")

CARRIER_SPEC = """
Name: carrier
Version: 1
Release: 1
Summary: brings a release, and has no scripts
License: Apache-2.0
AutoReqProv: no
%global __os_install_post %{nil}
%global _binary_payload w0.gzdio
%description
It.
%install
cp -a TREE/. %{buildroot}
%files
/var/lib/emqx-upgrade/packages/*
"""


APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"


def listing(m):
    prune = " -o ".join(f"-path {path}" for path in OTHERS)
    return set(m.run(f"find / -xdev \\( {prune} \\) -prune -o -print").stdout.splitlines())


def carried_tree(node_packages, kind, tmp_path, version="4.4.0"):
    file = kinds.package(node_packages, version, kind)
    top = tmp_path / "tree" / PACKAGES.lstrip("/")
    top.mkdir(parents=True)
    for name in (file, file.with_name(file.name + ".sha256")):
        subprocess.run(["cp", name, top], check=True)
    return tmp_path / "tree"


def carrier_deb(node_packages, tmp_path, version="4.4.0"):
    tree = carried_tree(node_packages, "deb", tmp_path, version)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text("Package: carrier\nVersion: 1\nArchitecture: all\nMaintainer: Test <test@example.org>\n"
                                         "Description: brings a release, and has no scripts\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, tmp_path / "carrier.deb"], check=True, capture_output=True)
    return tmp_path / "carrier.deb"


def carrier_rpm(node_packages, tmp_path):
    spec = tmp_path / "carrier.spec"
    spec.write_text(CARRIER_SPEC.replace("TREE", str(carried_tree(node_packages, "rpm", tmp_path))))
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", "--define", f"_rpmdir {tmp_path}/made",
                    "--define", f"_dbpath {tmp_path}/db", spec], check=True, capture_output=True)
    (made,) = tmp_path.glob("made/*/*.rpm")
    return made


def next_version(deb, tmp_path):
    """The same package, as if built later."""
    top = tmp_path / "next"
    subprocess.run(["dpkg-deb", "-R", deb, top], check=True)
    subprocess.run(["sed", "-i", "s/^Version: .*/&.1/", top / "DEBIAN/control"], check=True)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", top, tmp_path / "next.deb"], check=True, capture_output=True)
    return tmp_path / "next.deb"


def make_repository(m, node_packages, tmp_path):
    """One for apt, with 4.4.0 in it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    subprocess.run(["cp", kinds.package(node_packages, "4.4.0", "deb"), repository / "emqx.deb"], check=True)
    index = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=repository, check=True, capture_output=True, text=True).stdout
    m.run("mkdir -p /srv/repository && rm -f /etc/apt/sources.list.d/*")
    m.push(repository / "emqx.deb", "/srv/repository")
    m.write("/srv/repository/Packages", index)
    m.write("/srv/repository/Release", f"Origin: test\nSHA256:\n {hashlib.sha256(index.encode()).hexdigest()} {len(index)} Packages\n")
    m.write("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/repository ./\n")
    m.run("apt-get update")


def waits_at_drain(m):
    begun = events(m, "step-begun")
    return begun and begun[-1]["EMQX_UPGRADE_STEP"] == "drain"


def test_package_comes_works_and_goes_without_a_trace(machine, emqx_upgrade_deb, tmp_path):
    m = machine
    before = listing(m)
    m.install(emqx_upgrade_deb)
    m.push(TOP / "debian/tests/installed", "/root/installed")
    said = m.run("/root/installed", timeout=120).stdout
    assert said.count(": well") == 5

    m.install(next_version(emqx_upgrade_deb, tmp_path))
    assert m.run("dpkg-query -W -f '${Status} ${Version}' emqx-upgrade").stdout == "install ok installed 0.1.0.1"
    assert m.run("systemctl list-units --all --no-legend 'emqx-upgrade*.service' | grep -v resume", check=False).stdout == ""
    m.run("dpkg --remove emqx-upgrade && dpkg --purge emqx-upgrade")
    assert listing(m) - before == set()
    assert before - listing(m) == set()
    assert "emqx-upgrade" not in m.run("journalctl --list-catalog").stdout
    assert m.run("ls /run/emqx-upgrade", check=False).returncode != 0


def test_package_is_replaced_in_the_middle_of_an_upgrade_which_a_package_has_started(node_factory, node_packages, emqx_upgrade_deb,
                                                                                   tmp_path):
    m = node_factory(target=None)
    m.push(carrier_deb(node_packages, tmp_path), "/root/carrier.deb")
    m.push(next_version(emqx_upgrade_deb, tmp_path), "/root/next.deb")
    m.write("/etc/emqx-upgrade/hooks.d/wait", WAIT, mode=0o755)
    m.write("/etc/emqx-upgrade/hooks.d/zz-note", f"#!/bin/sh\n{WANT} >/run/want-at-$1\n", mode=0o755)
    m.run("echo emqx hold | dpkg --set-selections")

    # Nobody has asked for it.
    m.run("dpkg -i /root/carrier.deb && systemctl start emqx-upgrade-auto.service")
    assert event_names(m) == []
    m.run("dpkg -P carrier")
    m.write(CONF, "[Upgrade]\nAutoStart=yes\n")
    m.run("dpkg -i /root/carrier.deb")
    m.wait_until(lambda: waits_at_drain(m), timeout=180)
    assert "AutoStart=yes" in events(m, "upgrade-queued")[0]["MESSAGE"]

    pid = m.unit("emqx-upgrade@4.4.0.service")["MainPID"]
    for removal in ("--remove", "--purge"):
        refused = m.run(f"dpkg {removal} emqx-upgrade", check=False)
        assert refused.returncode != 0 and "is\nnot finished" in refused.stderr, refused.stderr
    m.run("dpkg -i /root/next.deb")
    assert m.unit("emqx-upgrade@4.4.0.service")["MainPID"] == pid
    m.run("systemctl start emqx-upgrade-auto.service")
    assert "is not over" in events(m, "upgrade-not-queued")[-1]["MESSAGE"]

    m.run("touch /run/go")
    wait_for_end(m)
    assert exit_status(m) == DONE
    assert m.run(f"{WANT}; cat /run/want-at-undrain").stdout == "holdhold"  # the operator's own, as soon as the new one is there
    assert status(m)["plan"]["hold"] == "operator"
    m.run("dpkg --set-selections", input="emqx install\n")
    assert_node_is(m, "4.4.0")

    purged = m.run("dpkg --purge emqx-upgrade")
    assert "kept the backups" in purged.stderr
    assert m.run(f"ls {STATE}").stdout.split() == ["backups", "history", "packages"]
    assert m.unit("emqx.service")["ActiveState"] == "active"


def test_a_package_starts_an_upgrade_and_apt_is_kept_from_one(machine, node_packages, emqx_upgrade_deb, tmp_path):
    """Without a node that runs, what was started is refused: that it was started is what counts here."""
    m = machine
    m.install(emqx_upgrade_deb, kinds.package(node_packages, "4.3.12", "deb"))
    m.push(carrier_deb(node_packages, tmp_path), "/root/carrier.deb")
    m.run("dpkg -i /root/carrier.deb && systemctl start emqx-upgrade-auto.service")
    assert event_names(m) == []  # nobody has asked for it
    m.run("dpkg -P carrier")
    m.write(CONF, "[Upgrade]\nAutoStart=yes\nRefuseOtherUpgrades=yes\n")
    for attempt in (1, 2):  # what was refused is tried again when the next package comes
        m.run("dpkg -i /root/carrier.deb")
        m.wait_until(lambda n=attempt: event_names(m).count("upgrade-refused") == n, timeout=180)
        queued = events(m, "upgrade-queued")
        assert len(queued) == attempt and "AutoStart=yes" in queued[-1]["MESSAGE"]

    make_repository(m, node_packages, tmp_path)
    refused = m.run(f"{APT} install emqx", check=False, timeout=120)
    assert refused.returncode != 0 and "Refused: emqx 4.3.12 would become 4.4.0" in refused.stdout, refused.stdout
    assert "systemctl start emqx-upgrade@" in refused.stdout
    assert_package_is(m, "install ok installed 4.3.12")
    lock = m.hold_lock("/var/lib/dpkg/lock-frontend")  # as an upgrade does
    between = m.run(f"{APT} install emqx", check=False, timeout=120)
    lock.kill()
    assert between.returncode != 0 and "Could not get lock /var/lib/dpkg/lock-frontend" in between.stderr, between.stderr
    assert_unattended_upgrades_is_refused(m)
    m.run(f"{APT} -o EmqxUpgrade::Guard=no install emqx", timeout=120)
    assert_package_is(m, "install ok installed 4.4.0")

    # What a removal leaves in apt's configuration does not complain of what is gone.
    m.run("dpkg --remove emqx-upgrade")
    assert m.exists("/etc/apt/apt.conf.d/50emqx-upgrade")
    assert "emqx-upgrade" not in m.run(f"{APT} install --reinstall emqx 2>&1", timeout=120).stdout


def test_a_package_that_comes_together_with_ours_starts_an_upgrade(machine, node_packages, emqx_upgrade_deb, tmp_path):
    """dpkg tells a package of no trigger before it is configured. As above, that the upgrade was started is what counts."""
    m = machine
    m.install(kinds.package(node_packages, "4.3.12", "deb"))
    m.write(CONF, "[Upgrade]\nAutoStart=yes\n")
    m.install(carrier_deb(node_packages, tmp_path), emqx_upgrade_deb)
    m.wait_until(lambda: "upgrade-refused" in event_names(m), timeout=90)
    assert event_names(m).count("upgrade-queued") == 1


def test_a_release_whose_package_goes_after_a_rollback_is_not_followed_by_a_lower_one(node_factory, node_packages, tmp_path):
    """dpkg tells of files that are removed as it tells of those that come."""
    m = node_factory(target="4.4.0")
    m.push(carrier_deb(node_packages, tmp_path, "4.4.11"), "/root/carrier.deb")
    m.write(CONF, "[Upgrade]\nAutoStart=yes\n")
    m.run("dpkg -i /root/carrier.deb")
    m.wait_until(lambda: "upgrade-done" in event_names(m), timeout=180)
    assert m.run("emqx-upgrade rollback", check=False, timeout=180).returncode == 0
    assert_node_is(m, "4.3.12")

    m.run("dpkg -P carrier")
    m.wait_until(lambda: "upgrade-not-queued" in event_names(m), timeout=60)
    (said,) = events(m, "upgrade-not-queued")
    assert "An upgrade to 4.4.11 was rolled back, and 4.4.0 is no higher release" in said["MESSAGE"]
    assert event_names(m).count("upgrade-queued") == 1


def test_apt_cannot_come_between_nor_pass_by(node_factory, node_packages, tmp_path):
    """During an upgrade dpkg's lock is held. After one that was rolled back, the package is on hold; and whoever insists is
    refused, where the configuration says so."""
    m = node_factory(target="4.4.0-no-start")
    m.write(CONF, "[Upgrade]\nAutoStart=yes\nHoldAfterRollback=yes\nRefuseOtherUpgrades=yes\nStartTimeoutSec=20s\n")
    make_repository(m, node_packages, tmp_path)

    start(m, block=False)
    m.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "stop" for e in events(m, "step-begun")), timeout=180, every=0.02)
    between = m.run(f"{APT} install emqx", check=False)
    assert between.returncode != 0 and "Could not get lock /var/lib/dpkg/lock-frontend" in between.stderr, between.stderr
    wait_for_end(m)
    assert exit_status(m) == ROLLED_BACK
    assert_package_is(m, "hold ok installed 4.3.12")
    assert "on hold, because it was rolled back" in m.run("emqx-upgrade status").stdout
    assert len(events(m, "package-held")) == 1
    m.run("systemctl start emqx-upgrade-auto.service")
    assert "was rolled back" in events(m, "upgrade-not-queued")[-1]["MESSAGE"]

    assert "emqx" in m.run(f"{APT} upgrade").stdout.split("kept back:")[1]
    refused = m.run(f"{APT} install --allow-change-held-packages emqx", check=False)
    assert refused.returncode != 0 and "Refused: emqx 4.3.12 would become 4.4.0" in refused.stdout, refused.stdout
    assert "systemctl start emqx-upgrade@" in refused.stdout
    assert_package_is(m, "hold ok installed 4.3.12")
    assert m.unit("emqx.service")["ActiveState"] == "active"

    m.run(f"rm {PACKAGES}/*4.4.0*")
    m.push_package("4.4.0")
    assert start(m).returncode == 0
    assert_node_is(m, "4.4.0")
    assert len(events(m, "package-released")) == 1
    assert not status(m)["plan"].get("hold")
    assert not m.exists(f"{STATE}/package-hold")

    # Where it was taken away by hand, the next look is enough: a hold that comes then is a person's.
    m.run(f"touch {STATE}/package-hold && emqx-upgrade plan 4.4.0", check=False)
    assert m.exists(f"{STATE}/package-hold")
    assert start(m).returncode == 0  # there is nothing to do
    assert not m.exists(f"{STATE}/package-hold")


def assert_unattended_upgrades_is_refused(m):
    """It wants to, tries, and fails as apt does."""
    m.write("/etc/apt/apt.conf.d/60test", 'Unattended-Upgrade::Origins-Pattern { "origin=test"; };\n')
    said = m.run("unattended-upgrade --verbose", check=False, timeout=180)
    told = said.stdout + said.stderr + m.run("cat /var/log/unattended-upgrades/*.log").stdout
    assert "Packages that will be upgraded: emqx" in told, told
    assert said.returncode != 0 and "Refused: emqx 4.3.12 would become 4.4.0" in told, told
    assert_package_is(m, "install ok installed 4.3.12")


def assert_package_is(m, state):
    assert m.run("dpkg-query -W -f '${Status} ${Version}' emqx").stdout == state
