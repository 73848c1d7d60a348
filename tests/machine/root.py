# SPDX-License-Identifier: Apache-2.0
"""Root file systems of machines: Debian by mmdebstrap, with what our package and the node's need to be installed
offline, and without the units that only slow a boot down. rpm's database is where el8 has it (Debian's rpm would look
in the caller's home), and is not there until somebody makes one."""

import os
import subprocess

from .cache import cached, digest

#: The release that machines run, if not another one is asked for. Packages are built on this host for its own, else there.
HOST = "bookworm"
SUITE = os.environ.get("EMQX_UPGRADE_TEST_SUITE", HOST)

PACKAGES = ("systemd systemd-sysv dbus procps iproute2 mosquitto-clients curl strace acl attr zstd less python3-minimal "
            "libarchive13 libinih1 libjson-c5 libmosquitto1 libcurl4 libssl3 libcmocka0 libtinfo6 libstdc++6 rpm unzip needrestart "
            "unattended-upgrades").split()

#: Debian 11 has no versionlock for dnf; Debian 13 does without passwd, if nobody asks for it.
DNF = ["dnf", "dnf-plugins-core"]
BESIDE = {"bookworm": DNF, "trixie": [*DNF, "passwd"]}

#: Names that libraries have in another release.
RENAMED = {
    "bullseye": {"libssl3": "libssl1.1"},
    "trixie": {name: f"{name}t64" for name in ("libarchive13", "libcurl4", "libssl3")},
}

BUILD = ("build-essential debhelper autoconf-archive libarchive-dev libcmocka-dev libcurl4-openssl-dev libinih-dev libjson-c-dev "
         "libmosquitto-dev libssl-dev libsystemd-dev pkg-config").split()
#: What the unit tests run.
CHECK = "acl attr btrfs-progs e2fsprogs mosquitto mosquitto-clients openssl procps python3 rpm strace unzip xfsprogs zip zstd".split()
#: What a release needs beside, to build our package; and the test node's around its own Erlang, where this host's is too new.
BUILD_OF = {
    "bullseye": "erlang-base erlang-dev erlang-mnesia".split(),
    "trixie": ["systemd-dev"],
}

MASKED = ("getty@.service serial-getty@.service console-getty.service getty.target systemd-networkd.service "
          "systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service systemd-udevd.service "
          "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer "
          "systemd-tmpfiles-clean.timer unattended-upgrades.service").split()


def _root(name, suite, packages, *options):
    # The release as it was published: of the security updates of an old one mirrors do not have all that they list.
    source = [] if suite == HOST else [f"deb http://deb.debian.org/debian {suite} main"]

    def make(path):
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}", *options, suite, path / "root",
                        *source], check=True)
        system = path / "root/etc/systemd/system"
        for unit in MASKED:
            (system / unit).symlink_to("/dev/null")
        (path / "root/etc/hostname").write_text("machine\n")
        (path / "root/etc/hosts").write_text("127.0.0.1 localhost machine\n::1 localhost ip6-localhost\n")
        (path / "root/etc/machine-id").write_text("")
        macros = path / "root/etc/rpm/macros"
        macros.parent.mkdir(exist_ok=True)
        macros.write_text("%_dbpath /var/lib/rpm\n")
        journald = path / "root/etc/systemd/journald.conf.d"
        journald.mkdir(parents=True)
        journald.joinpath("persistent.conf").write_text("[Journal]\nStorage=persistent\nSyncIntervalSec=1s\n")
    return cached(name, digest(suite, *packages, *options, *MASKED, "6"), make) / "root"


def debian(suite=SUITE):
    """Path of a root of suite; borrowed from the cache, not to be written to."""
    renamed = RENAMED.get(suite, {})
    return _root(f"root-{suite}", suite, [*(renamed.get(p, p) for p in PACKAGES), *BESIDE.get(suite, [])])


def builder(suite):
    """The same, to build packages of another release in, and run unit tests. Manual pages are not worth the minute that man-db indexes them for."""
    return _root(f"builder-{suite}", suite, ["systemd-sysv", "dbus", *BUILD, *CHECK, *BUILD_OF[suite]],
                 "--dpkgopt=path-exclude=/usr/share/man/*")
