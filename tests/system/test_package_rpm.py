# SPDX-License-Identifier: Apache-2.0
"""Our own package as an .rpm: the same files as the .deb, and an upgrade that it starts."""

import subprocess

from machine.cache import TOP
from test_package import CONF, WAIT, carrier_rpm, listing, waits_at_drain
from upgrade import STATE, assert_node_is, wait_for_end


def test_rpmlint_has_nothing_to_say_of_the_rpm_and_its_spec(our_rpm):
    said = subprocess.run(["rpmlint", "-r", TOP / "rpm/emqx-upgrade.rpmlintrc", TOP / "rpm/emqx-upgrade.spec", our_rpm], check=False,
                          capture_output=True, text=True)
    assert said.returncode == 0 and " 0 errors, 0 warnings," in said.stdout, said.stdout + said.stderr


def test_rpm_is_as_the_deb_and_starts_an_upgrade(node_factory, node_packages, our_rpm, emqx_upgrade_deb, tmp_path):
    def paths(argv):
        listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split("\n")
        files = {line.split(" ")[-1].lstrip(".").replace("/lib/systemd", "/usr/lib/systemd").replace("/usr/usr", "/usr")
                 for line in listed if line and "->" not in line and not line.endswith("/")}
        return {f.removesuffix(".gz") for f in files}
    ours = paths(["sh", "-c", f"dpkg-deb -c {emqx_upgrade_deb} | sed 's/ -> .*//'"])
    rpms = paths(["rpm", "-qlp", our_rpm])
    only_deb = {"/etc/apt/apt.conf.d/50emqx-upgrade", "/usr/share/lintian/overrides/emqx-upgrade"}
    others = ("/usr/share/doc/", "/usr/share/licenses/", "/usr/lib/.build-id")  # in other places, or of the package manager
    assert {f for f in ours - rpms if not f.startswith(others)} == only_deb
    directories = {"/etc/emqx-upgrade", "/etc/emqx-upgrade/emqx-upgrade.conf.d", "/etc/emqx-upgrade/hooks.d", "/etc/needrestart",
                   "/etc/needrestart/conf.d", "/usr/libexec/emqx-upgrade", "/usr/lib/systemd/system/emqx.service.d",
                   "/usr/lib/systemd/system/multi-user.target.wants", "/usr/share/emqx-upgrade", "/usr/share/emqx-upgrade/hooks",
                   "/usr/share/emqx-upgrade/schema"}
    assert {f for f in rpms - ours if not f.startswith(others)} == directories

    m = node_factory(kind="rpm", target=None)
    m.run("dpkg --purge emqx-upgrade")
    m.push(our_rpm, "/root/ours.rpm")
    m.push(carrier_rpm(node_packages, tmp_path), "/root/carrier.rpm")
    before = listing(m)
    m.run("rpm -i --nodeps /root/ours.rpm")  # its database knows what the test node needs, and no library beside that
    assert m.run("journalctl --list-catalog 9b0c6a57aaee4f0791331b106150e322").returncode == 0
    assert m.run("stat -c '%a %U' /var/lib/emqx-upgrade").stdout == "700 root\n"
    m.push_package("4.3.12")
    m.write("/etc/emqx-upgrade/hooks.d/wait", WAIT, mode=0o755)
    m.write(CONF, "[Upgrade]\nAutoStart=yes\n")

    m.run("rpm -i /root/carrier.rpm")
    m.wait_until(lambda: waits_at_drain(m), timeout=180)
    pid = m.unit("emqx-upgrade@4.4.0.service")["MainPID"]
    assert "not removed" in m.run("rpm -e emqx-upgrade", check=False).stderr
    m.run("rpm -U --nodeps --replacepkgs /root/ours.rpm")
    assert m.unit("emqx-upgrade@4.4.0.service")["MainPID"] == pid
    m.run("touch /run/go")
    wait_for_end(m)
    assert_node_is(m, "4.4.0")

    m.run("rpm -e emqx-upgrade carrier")
    left = {f for f in listing(m) - before if "emqx-upgrade" in f}
    assert {f for f in left if not f.startswith((STATE, "/etc/emqx-upgrade"))} == set(), left
    assert m.run(f"ls {STATE}").stdout.split() == ["backups", "history", "packages"]
    assert m.unit("emqx.service")["ActiveState"] == "active"
