# SPDX-License-Identifier: Apache-2.0
"""Every check of `emqx-upgrade plan`, on a node that has the trouble. Troubles do not disturb each other, so a node has many at
once: one that is warned of them all, and then refused for the others."""

import json

import pytest

from upgrade import PACKAGES, STATE, node_files, validator

#: What is only warned of, by the name of its check: how the node gets it, and what is said.
WARNED = {
    "patches": ("install -o emqx -g emqx /dev/null $DATA/patches/emqx_broker.beam",
                ["are not carried over: emqx_broker.beam"]),
    "external-plugins": ("mkdir -p $DATA/plugins/my_plugin/ebin", ["my_plugin", "compiled for 4.3"]),
    "plugins": ("echo '{emqx_no_such, true}.' >>$DATA/loaded_plugins", ["4.4.0 has no plugin emqx_no_such,"]),
    "erlang-terms": ("echo '[].' >$ETC/sys.config; echo '[].' >$ETC/plugins/emqx_recon.config",
                     ["$ETC/sys.config", "$ETC/plugins/emqx_recon.config"]),
    "referenced-files": ("echo 'listener.ssl.external.certfile = /etc/emqx/certs/gone.pem' >>$ETC/emqx.conf",
                         ["/etc/emqx/certs/gone.pem (listener.ssl.external.certfile)"]),
    "default-file": ("echo 'EMQX_MQTT__MAX_QOS_ALLOWED=1' >/etc/default/emqx", ["EMQX_MQTT__MAX_QOS_ALLOWED", "neither version reads it"]),
    "unit-file": ("mkdir -p /etc/systemd/system/emqx.service.d; printf '[Service]\\nRestart=always\\n' >"
                  "/etc/systemd/system/emqx.service.d/mine.conf; systemctl daemon-reload",
                  ["Restart= (/etc/systemd/system/emqx.service.d/mine.conf)"]),
    "needrestart": ("install -m 755 /dev/null /usr/sbin/needrestart; mv /etc/needrestart/conf.d/emqx-upgrade.conf /root/",
                    ["needrestart would restart the node"]),
}

#: The same for what is refused.
REFUSED = {
    "node-name": ("sed -i 's/^node.name = .*/node.name = other@127.0.0.1/' $ETC/emqx.conf",
                  ["The tables of other@127.0.0.1 should be in $DATA/mnesia/other@127.0.0.1"]),
    "cookie": ("chmod 0440 $DATA/.erlang.cookie", [".erlang.cookie is accessible by others than its owner (mode 0440)"]),
    "emqx-vars": ("printf 'RUNNER_LOG_DIR=\"/var/log/emqx\"\\nMY_SECRET=\"abc\"\\n' >>/usr/lib/emqx/releases/emqx_vars",
                  ["emqx_vars was edited: MY_SECRET"]),
    "space": (f"mkdir /root/packages && cp {PACKAGES}/* /root/packages/ && mount -t tmpfs -o nr_inodes=900 tmpfs {STATE} && "
              f"cp -r /root/packages {STATE}/", ["inodes"]),
}


def plan(m, version="4.4.0"):
    """(exit status, checks by name, all of it)"""
    shown = m.run(["emqx-upgrade", "plan", "--json", version], check=False, timeout=240)
    told = json.loads(shown.stdout)
    validator("plan").validate(told)
    return shown.returncode, {c["name"]: c for c in told["checks"]}, told


def expand(m, text):
    return text.replace("$ETC", m.etc).replace("$DATA", m.data)


@pytest.fixture(scope="module")
def troubled(boot_node):
    """(machine, checks of the node as it is, with all that is warned of, with all else on top)"""
    m = boot_node()
    try:
        pid = m.unit("emqx.service")["MainPID"]
        seen = [plan(m)]
        for troubles in (WARNED, REFUSED):
            for how, _ in troubles.values():
                m.run(expand(m, how))
            before = node_files(m)
            seen.append(plan(m))
            assert node_files(m) == before
        assert m.unit("emqx.service")["MainPID"] == pid
        yield m, *seen
    finally:
        m.stop()


def test_plan_as_json_tells_checks_directories_and_steps(troubled):
    m, (code, checks, told), *_ = troubled
    assert code == 0 and told["verdict"] == "may-start"
    assert {c["outcome"] for c in checks.values()} == {"passed"}, [c for c in checks.values() if c["outcome"] != "passed"]
    assert {d["name"]: d["path"] for d in told["directories"]} == {"etc": m.etc, "data": m.data}
    assert all(d["bytes"] > 0 and d["entries"] > 0 and d["filesystem"] for d in told["directories"])
    assert [s["name"] for s in told["steps"] if s["node_down"]] == ["stop", "backup", "remove", "install", "restore", "start"]
    assert told["plan"]["from"] == "4.3.12"


@pytest.mark.parametrize("check", WARNED)
def test_trouble_that_is_warned_of(troubled, check):
    m, (_, clean, _), (code, checks, _), _ = troubled
    assert clean[check]["outcome"] == "passed", clean[check]
    assert code == 0 and checks[check]["outcome"] == "warned" and checks[check]["advice"], checks[check]
    for text in WARNED[check][1]:
        assert expand(m, text) in checks[check]["text"]


@pytest.mark.parametrize("check", REFUSED)
def test_trouble_that_is_refused(troubled, check):
    m, (_, clean, _), _, (code, checks, told) = troubled
    assert clean[check]["outcome"] == "passed", clean[check]
    assert code == 3 and told["verdict"] == "refused"
    assert checks[check]["outcome"] == "refused" and checks[check]["advice"], checks[check]
    for text in REFUSED[check][1]:
        assert expand(m, text) in checks[check]["text"]
    assert "abc" not in json.dumps(told)


def test_plan_keeps_to_80_columns(troubled):
    m, *_ = troubled
    lines = m.run("COLUMNS=80 emqx-upgrade plan 4.4.0", check=False, timeout=240).stdout.splitlines()
    assert len(lines) > 40
    # A path or a name longer than what is left stays whole.
    assert [x for x in lines if len(x) > 80 and len(x.strip().split()) > 1 and max(map(len, x.split())) < 45] == []


def test_name_that_was_changed_since_the_start_or_is_none_for_the_target(troubled):
    m, *_ = troubled
    conf = f"{m.etc}/emqx.conf"
    m.run(f"chmod 0400 {m.data}/.erlang.cookie && umount {STATE} && cp -a {conf} /root/")
    m.push_package("4.4.11")
    _, checks, _ = plan(m)
    assert "The node runs as emqx@127.0.0.1, but would start as other@127.0.0.1" in checks["node-name"]["text"]
    m.run(f"sed -i 's/^node.name = .*/node.name = em.qx@127.0.0.1/' {conf}")
    _, checks, _ = plan(m, "4.4.11")
    assert "4.4.11 does not start as em.qx@127.0.0.1" in checks["node-name"]["text"]
