# SPDX-License-Identifier: Apache-2.0
"""The kinds of installation, "deb", "rpm" and "zip": where each has things, and how an operator makes one by hand."""

import collections

Layout = collections.namedtuple("Layout", "root_dir bin_dir etc data log")
PACKAGED = Layout("/usr/lib/emqx", "/usr/bin", "/etc/emqx", "/var/lib/emqx", "/var/log/emqx")
LAYOUTS = {"deb": PACKAGED, "rpm": PACKAGED,
           "zip": Layout("/opt/emqx", "/opt/emqx/bin", "/opt/emqx/etc", "/opt/emqx/data", "/opt/emqx/log")}

#: What comes with no zip.
ZIP_UNIT = """[Unit]
Description=EMQ X, from a zip
After=network.target

[Service]
Type=forking
User=emqx
Group=emqx
ExecStart=/opt/emqx/bin/emqx start
ExecStop=/opt/emqx/bin/emqx stop
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"""


def package(node_packages, variant, kind):
    """Path on this host of a variant's package."""
    (file,) = node_packages.joinpath(variant).glob(f"*.{kind}")
    return file


def init_rpm(m, node_packages):
    """Gives the machine a database of rpm that knows what a Debian has."""
    m.push(package(node_packages, "test-base", "rpm"), "/root/base.rpm")
    m.run("rpm --initdb && rpm -i /root/base.rpm && rm /root/base.rpm")


def install(m, node_packages, kind, variant):
    """Installs a node and starts nothing. With a zip the user and the unit are the operator's to make."""
    file = package(node_packages, variant, kind)
    if kind == "deb":
        m.install(file)
    elif kind == "rpm":
        init_rpm(m, node_packages)
        m.push(file, "/root/node.rpm")
        m.run("rpm -i /root/node.rpm && rm /root/node.rpm")
    else:
        m.push(file, "/root/node.zip")
        m.run("useradd --system --create-home --shell /bin/bash emqx\n"
              "unzip -q /root/node.zip -d /opt && rm /root/node.zip && chown -R emqx:emqx /opt/emqx")
        m.write("/etc/systemd/system/emqx.service", ZIP_UNIT)
        m.run("systemctl enable emqx")
    m.run("systemctl daemon-reload")
