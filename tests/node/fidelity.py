# SPDX-License-Identifier: Apache-2.0
"""What the tests of the test node say again and again."""

import subprocess

LOG = "/var/log/emqx"
DATA = "/var/lib/emqx"
SU = "su - emqx -c"


def deb(packages, variant):
    (file,) = packages.joinpath(variant).glob("*.deb")
    return file


def field(packages, variant, name):
    out = subprocess.run(["dpkg-deb", "-f", deb(packages, variant), name], check=True, capture_output=True, text=True)
    return out.stdout.strip()


def dpkg(m, packages, variant, *options, check=True):
    """dpkg -i with nobody to answer its questions, and no daemon-reload after it."""
    m.push(deb(packages, variant), f"/root/{variant}.deb")
    return m.run(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *options, "-i", f"/root/{variant}.deb"], check=check)


def start(m, check=True, timeout=120):
    m.run("systemctl daemon-reload; systemctl reset-failed emqx", check=False)
    return m.run("systemctl start emqx", check=check, timeout=timeout)


def ready(m):
    m.wait_until(lambda: "is started" in m.run("emqx_ctl status", check=False).stdout)


def node_pids(m):
    """Processes of the runtime, whether its files are still there or not."""
    return m.run("for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/emqx/*) echo ${p#/proc/};; esac; done").stdout.split()


def erlang_log(m):
    return m.run(f"cat {LOG}/erlang.log.*", check=False).stdout


def emqx_log(m):
    return m.run(f"cat {LOG}/emqx.log.[0-9]", check=False).stdout


def evaluate(m, expression):
    """As the node's user, for su(1) would take the quotes away."""
    return m.run(["emqx", "eval", expression], user="emqx", env={"HOME": DATA}).stdout


def stat(m, path, form="%a %U %G"):
    return m.run(["stat", "-c", form, path]).stdout.strip()


def check_conf(m, text, version="4.3.12", verb="generate"):
    m.write("/var/tmp/try.conf", text)
    m.run("rm -rf /var/tmp/try; install -d -o emqx /var/tmp/try")
    return m.run(f"cd /usr/lib/emqx && CUTTLEFISH_ENV_OVERRIDE_PREFIX=EMQX_ HOME={DATA} erts-*/bin/escript bin/cuttlefish "
                 f"-i releases/{version}/emqx.schema -c /var/tmp/try.conf -d /var/tmp/try {verb}", check=False, user="emqx")
