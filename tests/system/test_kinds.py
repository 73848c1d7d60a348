# SPDX-License-Identifier: Apache-2.0
"""What only an RPM or a zip has: their bad packages, the lock of rpm, and data within the directory of the program."""

import warnings
import zipfile

import pytest

from test_refusals import refused
from upgrade import PACKAGES, STATE, assert_node_is, event_names, events, node_files, retained, start, status, tree, wait_until_it_serves

def target_file(m):
    (file,) = m.path(PACKAGES).glob(f"*4.4.0*.{m.kind}")
    return file


def make_checksum_fit(m):
    name = target_file(m).name
    m.run(f"cd {PACKAGES} && sha256sum {name} >{name}.sha256")


def refused_and_untouched(node, says):
    before, pid = node_files(node), node.unit("emqx.service")["MainPID"]
    refused(node, says=[says])
    assert node_files(node) == before and node.unit("emqx.service")["MainPID"] == pid
    assert_node_is(node, "4.3.12")


@pytest.mark.parametrize("kind, script, says", [
    ("rpm", "truncate -s -5000 $F", ".rpm"),
    ("rpm", "printf x | dd of=$F bs=1 seek=$(($(stat -c %s $F) - 3000)) conv=notrunc status=none", ".rpm"),
    ("rpm", "cp *4.3.12*.rpm $F", "has no package of emqx 4.4.0"),
    ("zip", "truncate -s -5000 $F", ".zip"),
])
def test_damaged_package_is_refused(kind, node, script, says):
    node.run(f"cd {PACKAGES} && F={target_file(node).name} && {script}")
    make_checksum_fit(node)
    refused_and_untouched(node, says)


HOSTILE = [("emqx/../../etc/cron.d/evil", 0o100644, "x", "'emqx/../../etc/cron.d/evil' has a name that is no plain path"),
           ("/etc/cron.d/evil", 0o100644, "x", "'/etc/cron.d/evil' has an absolute name"),
           ("emqx/out", 0o120777, "/etc", "'emqx/out' is a symbolic link out of the archive"),
           ("emqx/null", 0o20666, "", "'emqx/null' is neither a file"),
           ("emqx/etc/emqx.conf", 0o100644, "x", "'emqx/etc/emqx.conf' stands in it twice")]


def test_hostile_zip_is_refused_by_name(node_factory):
    node = node_factory(kind="zip")
    good = target_file(node).read_bytes()
    for name, mode, content, says in HOSTILE:
        entry = zipfile.ZipInfo("x")
        entry.filename, entry.external_attr, entry.create_system = name, mode << 16, 3
        target_file(node).write_bytes(good)
        with warnings.catch_warnings(), zipfile.ZipFile(target_file(node), "a") as z:
            warnings.simplefilter("ignore")  # one is there twice, on purpose
            z.writestr(entry, content)
        make_checksum_fit(node)
        refused_and_untouched(node, says)
        assert not node.exists("/etc/cron.d/evil")


@pytest.mark.parametrize("variant, says", [("4.4.0-arm64", "for x86_64, only for another architecture"), ("4.4.0-depends", "libnosuch")])
def test_rpm_that_does_not_fit_is_refused(node_factory, variant, says):
    node = node_factory(kind="rpm", target=variant)
    refused(node, says=[says])
    assert_node_is(node, "4.3.12")


@pytest.mark.parametrize("kind, cache", [("deb", "/var/cache/apt/archives"), ("rpm", "/var/cache/dnf/emqx-0123abcd/packages")])
def test_old_package_is_found_in_the_cache(kind, node_factory, cache):
    node = node_factory(target="4.4.0-no-start")
    node.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nStartTimeoutSec=10s\n")
    node.run(f"mkdir -p {cache} && mv {PACKAGES}/*4.3.12*.{kind} {cache}/ && rm {PACKAGES}/*4.3.12*.sha256")
    before = node_files(node)
    assert f"{cache}/" in node.run("emqx-upgrade plan 4.4.0").stdout

    assert start(node).returncode != 0
    assert event_names(node)[-1] == "rollback-done"
    assert_node_is(node, "4.3.12")
    assert node_files(node) == before


def test_lock_of_rpm_is_waited_for_and_named(node_factory):
    node = node_factory(kind="rpm")
    holder = node.hold_lock("/var/lib/rpm/.rpm.lock")
    start(node, block=False)
    node.wait_until(lambda: "waiting" in event_names(node), timeout=30)
    assert "python3" in events(node, "waiting")[0]["MESSAGE"]
    assert node.unit("emqx.service")["ActiveState"] == "active"

    holder.kill()
    node.wait_until(lambda: "upgrade-done" in event_names(node), timeout=60)
    assert_node_is(node, "4.4.0")


def test_rpm_that_was_rolled_back_is_locked_for_dnf(node_factory):
    """As dpkg has a hold (test_package.py), until an upgrade succeeds; one of the operator's is put back."""
    node = node_factory(kind="rpm", target="4.4.0-no-start")
    node.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf", "[Upgrade]\nHoldAfterRollback=yes\nStartTimeoutSec=10s\n")

    def locks():
        return node.run("dnf -q --disablerepo=* versionlock list").stdout.split()
    assert start(node).returncode != 0
    assert event_names(node)[-1] == "rollback-done"
    if not node.exists("/etc/dnf/plugins/versionlock.list"):  # Debian 11
        assert "by dnf's plugin versionlock" in events(node, "package-not-held")[0]["MESSAGE"]
        return
    assert locks() == ["emqx-0:4.3.12-1.el8.*"]
    assert "dnf versionlock delete emqx takes the hold away" in events(node, "package-held")[0]["MESSAGE"]
    assert "on hold, because it was rolled back" in node.run("emqx-upgrade status").stdout

    node.run(f"rm {PACKAGES}/*4.4.0*")
    node.push_package("4.4.0")
    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    assert locks() == []
    assert len(events(node, "package-released")) == 1

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert locks() == ["emqx-0:4.3.12-1.el8.*"]

    # One of the operator's, on whatever version: it was there before.
    node.run(f"rm {STATE}/package-hold")
    assert start(node).returncode == 0
    assert [lock.rsplit("_", 1)[0] for lock in locks()] == ["emqx-0:4.4.0-otp24.1.5"]
    assert status(node)["plan"]["hold"] == "operator"


def test_data_within_the_directory_that_rpm_deletes_is_carried(node_factory):
    node = node_factory(kind="rpm")
    node.run("mkdir -p /usr/lib/emqx/data/rules && echo key >/usr/lib/emqx/data/rules/key && chown -R emqx:emqx /usr/lib/emqx/data")
    node.write("/etc/systemd/system/emqx.service.d/where.conf", "[Service]\nEnvironment=EMQX_NODE__DATA_DIR=data\n")
    node.run("systemctl daemon-reload && systemctl restart emqx", timeout=120, check=False)
    node.wait_until(lambda: node.run("emqx_ctl status", check=False).returncode == 0, timeout=60)
    before = tree(node, "/usr/lib/emqx/data")
    assert "rules/key" in before

    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    assert tree(node, "/usr/lib/emqx/data") == before

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert tree(node, "/usr/lib/emqx/data") == before


@pytest.mark.parametrize("script, says", [
    ("mkdir /srv/data && ln -s /srv/data /usr/lib/emqx/data", "is a symbolic link in the directory of the program"),
    ("mkdir /usr/lib/emqx/data && mount -t tmpfs tmpfs /usr/lib/emqx/data", "is a mount point in the directory of the program"),
])
def test_data_that_the_removal_of_an_rpm_would_lose_is_refused(node_factory, script, says):
    node = node_factory(kind="rpm")
    node.run(script)
    node.write("/etc/systemd/system/emqx.service.d/where.conf", "[Service]\nEnvironment=EMQX_NODE__DATA_DIR=/usr/lib/emqx/data\n")
    node.run("systemctl daemon-reload")
    refused(node, says=[says])
    assert_node_is(node, "4.3.12")


def test_links_within_a_zips_directory_are_made_again(node_factory):
    """Data on another disk, behind a link in the directory that is exchanged; the log goes along too."""
    node = node_factory(kind="zip")
    node.run("systemctl stop emqx; systemctl reset-failed emqx; mkdir /srv/emqx; mv /opt/emqx/data /srv/emqx/data && "
             "ln -s ../../srv/emqx/data /opt/emqx/data && systemctl start emqx", timeout=120)
    wait_until_it_serves(node)
    messages, before = retained(node, node.n_retained), tree(node, "/srv/emqx/data")
    log = node.run("head -c 200 /opt/emqx/log/erlang.log.1").stdout

    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    assert node.run("readlink /opt/emqx/data").stdout == "../../srv/emqx/data\n"
    assert {t["name"] for t in status(node)["plan"]["trees"]} == {"etc", "data", "log"}
    assert tree(node, "/srv/emqx/data") == before and retained(node, node.n_retained) == messages
    assert log and log in node.run("cat /opt/emqx/log/erlang.log.*").stdout

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node.run("readlink /opt/emqx/data").stdout == "../../srv/emqx/data\n"
    assert tree(node, "/srv/emqx/data") == before


@pytest.mark.parametrize("script, says", [
    ("mount --bind /opt/emqx /opt/emqx", "/opt/emqx is a mount point: it cannot be exchanged"),
    ("mount --bind /opt/emqx/data/mnesia /opt/emqx/data/mnesia", "/opt/emqx/data/mnesia is a mount point in the directory of the program"),
])
def test_mount_point_that_the_exchange_of_a_zip_would_move_is_refused(node_factory, script, says):
    node = node_factory(kind="zip")
    node.run(script)
    refused(node, says=[says])
    assert node.run("grep REL_VSN /opt/emqx/releases/emqx_vars").stdout == 'REL_VSN="4.3.12"\n'


def test_zip_is_found_where_the_unit_starts_it(node_factory):
    """Below /home, which is a mount of the conductor's own (ProtectHome=)."""
    node = node_factory(kind="zip")
    node.run("systemctl stop emqx; systemctl reset-failed emqx; mkdir /home/apps; mv /opt/emqx /home/apps/mqtt; "
             "sed -i s,/opt/emqx,/home/apps/mqtt, /etc/systemd/system/emqx.service; systemctl daemon-reload; systemctl start emqx", timeout=120)
    node.bin_dir = "/home/apps/mqtt/bin"
    wait_until_it_serves(node)
    assert "(zip, x86_64) in /home/apps/mqtt" in node.run("emqx-upgrade plan 4.4.0").stdout
    assert start(node).returncode == 0, events(node)[-1]
    assert node.run("grep REL_VSN /home/apps/mqtt/releases/emqx_vars").stdout == 'REL_VSN="4.4.0"\n'
