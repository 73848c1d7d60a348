# SPDX-License-Identifier: Apache-2.0
"""Root file systems of machines: Debian by mmdebstrap, with what our package and the node's need to be installed
offline, and without the units that only slow a boot down. rpm's database is where el8 has it (Debian's rpm would look
in the caller's home), and is not there until somebody makes one."""

import subprocess

from .cache import cached, digest

PACKAGES = ("systemd systemd-sysv dbus procps iproute2 mosquitto-clients curl strace acl attr zstd less python3-minimal "
            "libarchive13 libinih1 libjson-c5 libmosquitto1 libcurl4 libssl3 libcmocka0 libtinfo6 libstdc++6 rpm unzip needrestart").split()

MASKED = ("getty@.service serial-getty@.service console-getty.service getty.target systemd-networkd.service "
          "systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service systemd-udevd.service "
          "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer "
          "systemd-tmpfiles-clean.timer").split()


def debian(suite="bookworm"):
    """Path of a root of suite; borrowed from the cache, not to be written to."""
    def make(path):
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}", suite, path / "root"],
                       check=True)
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
    return cached(f"root-{suite}", digest(suite, *PACKAGES, *MASKED, "6"), make) / "root"
