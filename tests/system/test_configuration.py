# SPDX-License-Identifier: Apache-2.0
"""Whether the new release accepts the node's configuration is asked of the new release, before anything is stopped."""

import pytest
from kinds import LAYOUTS

from test_refusals import refused
from upgrade import STATE, assert_node_is, events, node_files, start, status

CONF = "/etc/emqx-upgrade/emqx-upgrade.conf.d/test.conf"


@pytest.fixture(scope="module", params=LAYOUTS)
def asked(request, boot_node):
    """One node of each kind: none of the questions may touch it."""
    m = boot_node(kind=request.param)
    yield m
    m.stop()


def plan(m):
    """(exit status, what `emqx-upgrade plan` prints, its lines joined)."""
    shown = m.run(["emqx-upgrade", "plan", "4.4.0"], check=False, timeout=120)
    return shown.returncode, " ".join(shown.stdout.split())


def test_keys_that_the_new_release_does_not_know_are_named_with_file_and_line(asked):
    m = asked
    code, shown = plan(m)
    assert code == 0 and f"4.4.0 accepts {m.etc}/emqx.conf and the files of " in shown, shown

    before, pid = node_files(m), m.unit("emqx.service")["MainPID"]
    number = int(m.run(f"wc -l <{m.etc}/emqx.conf").stdout) + 1
    m.run(f"mkdir -p {STATE}/judge-0123abcd/lib /run/emqx-upgrade/judge-0123abcd")  # of one that was killed
    m.run(f"cp -a {m.etc}/emqx.conf /root/ && printf 'my.own.key = s3cr3t-value\\n' >>{m.etc}/emqx.conf")
    refused(m, says=[f"4.4.0 does not accept the configuration: it has no setting my.own.key ({m.etc}/emqx.conf:{number})"])
    assert "s3cr3t-value" not in m.run("journalctl --no-pager -o json").stdout

    # A value that is none, in a file that is included: the sentence is there, the value is not.
    m.run(f"cp -a /root/emqx.conf {m.etc}/emqx.conf && echo 'include {m.etc}/more.conf' >>{m.etc}/emqx.conf && "
          f"echo 'mqtt.max_clientid_len = s3cr3t-value' >{m.etc}/more.conf && chmod 644 {m.etc}/more.conf")
    m.run(f"sed -i '/^mqtt.max_clientid_len/d' {m.etc}/emqx.conf")
    code, shown = plan(m)
    assert code != 0 and "mqtt.max_clientid_len" in shown and "s3cr3t-value" not in shown, shown

    m.run(f"cp -a /root/emqx.conf {m.etc}/emqx.conf && rm {m.etc}/more.conf")
    assert m.unit("emqx.service")["MainPID"] == pid
    assert m.run(f"ls -d {STATE}/judge* /run/emqx-upgrade/judge*", check=False).stdout == ""
    assert {n: e for n, e in node_files(m)["etc"].items() if n != "."} == before["etc"]


def test_files_of_active_plugins_count_and_others_do_not(asked):
    m = asked
    for plugin, is_active in (("emqx_retainer", True), ("emqx_auth_jwt", False)):
        file = f"{m.etc}/plugins/{plugin}.conf"
        m.run(f"cp -a {file} /root/ && echo 'no.such.key = 1' >>{file}")
        code, shown = plan(m)
        m.run(f"cp -a /root/{plugin}.conf {file}")
        assert (code != 0) == is_active, shown
        assert ("it has no setting no.such.key" in shown and f"{file}:" in shown) == is_active, shown


def test_two_plans_do_not_disturb_each_other(asked):
    m = asked
    shown = m.run("for i in 1 2 3; do (emqx-upgrade plan 4.4.0 >/root/plan-$i 2>&1; echo $? >>/root/plan-$i) & done; wait; "
                  "tail -n 1 /root/plan-?; cat /root/plan-?", timeout=180).stdout
    assert shown.count("\n0\n") >= 3 and "REFUSED" not in shown, shown
    assert m.run(f"ls -d {STATE}/judge* /run/emqx-upgrade/judge*", check=False).stdout == ""


def test_environment_of_the_unit_counts(asked):
    m = asked
    m.write("/etc/systemd/system/emqx.service.d/env.conf", "[Service]\nEnvironment=EMQX_MQTT__MAX_CLIENTID_LEN=many\n", mode=0o644)
    m.run("systemctl daemon-reload")
    code, shown = plan(m)
    m.run("rm /etc/systemd/system/emqx.service.d/env.conf && systemctl daemon-reload")
    assert code != 0 and "mqtt.max_clientid_len" in shown, shown


def test_environment_file_of_the_unit_counts_and_is_not_shown(asked):
    """Not in what is asked of systemd either, which shows Environment= of a unit to everybody."""
    m = asked
    m.write("/etc/emqx-node.env", "EMQX_MQTT__MAX_CLIENTID_LEN=s3cr3t-value\nCUTTLEFISH_ENV_OVERRIDE_PREFIX=OTHER_\n", mode=0o600)
    m.write("/etc/systemd/system/emqx.service.d/env.conf", "[Service]\nEnvironmentFile=/etc/emqx-node.env\n", mode=0o644)
    m.run("systemctl daemon-reload && systemd-run -q --unit=monitor -p StandardOutput=file:/root/monitored "
          "-p StandardError=file:/root/monitoring busctl monitor")
    m.wait_until(lambda: m.run("grep -q '^Monitoring' /root/monitoring", check=False).returncode == 0)
    code, shown = plan(m)
    m.run("systemctl stop monitor; rm -r /etc/systemd/system/emqx.service.d/env.conf /etc/emqx-node.env; systemctl daemon-reload")
    assert code != 0 and "mqtt.max_clientid_len" in shown and "s3cr3t-value" not in shown, shown
    monitored = m.run("cat /root/monitored").stdout
    assert "s3cr3t-value" not in monitored and 'STRING "/etc/emqx-node.env"' in monitored
    for unit in ("emqx-upgrade-step-judge-", "emqx-upgrade-step-command-"):
        assert f'STRING "{unit}' in monitored


def test_runtime_that_cannot_run_here_is_refused(node_factory):
    """It lacks a library: seen with a program in place of its escript, since the packages have all they need."""
    m = node_factory(kind="deb")
    m.run(f"""cd /root && F=$(ls {STATE}/packages/*4.4.0*.deb) && dpkg-deb -R $F x && cd x/usr/lib/emqx/erts-*/bin &&
              printf '#!/bin/sh\\necho "FATAL: Unable to start Erlang: libcrypto.so.1.1" >&2\\nexit 127\\n' >escript && cd /root &&
              dpkg-deb -Zgzip -b x $F && cd {STATE}/packages && sha256sum $(basename $F) >$(basename $F).sha256""")
    refused(m, says=["The runtime of 4.4.0 does not run on this host", "libcrypto.so.1.1"])
    assert_node_is(m, "4.3.12")


def test_stock_configuration_of_the_last_4_3_is_taken_by_its_partner(node_factory):
    """Facts 4.3: from 4.4.11 on all of it is known."""
    m = node_factory(version="4.3.22", target="4.4.11")
    before = node_files(m)
    assert start(m, "4.4.11").returncode == 0
    assert_node_is(m, "4.4.11")
    assert node_files(m)["etc"] == before["etc"] and "adapted" not in status(m)["plan"]


def test_stock_configuration_of_the_last_4_3_is_refused_by_4_4_0(node_factory):
    m = node_factory(version="4.3.22")
    m.write(CONF, "[Upgrade]\nAllowLostFixes=yes\n", mode=0o644)
    refused(m, says=["node.dist_use_interface (/etc/emqx/emqx.conf:", "mqtt.exclusive_subscription (/etc/emqx/emqx.conf:",
                     "auth_order (/etc/emqx/emqx.conf:", "acl_order (/etc/emqx/emqx.conf:", "Take 4.4.11 or later"])
    assert_node_is(m, "4.3.22")

    # Whoever wants to may see it fail, and be taken back.
    m.write(CONF, "[Upgrade]\nAllowLostFixes=yes\nRequireAcceptedConfiguration=no\n", mode=0o644)
    assert start(m).returncode != 0
    assert "configuration" in [e["EMQX_UPGRADE_CHECK"] for e in events(m, "check-warned")]
    assert_node_is(m, "4.3.22")


DROPPED = ("node.dist_use_interface", "mqtt.exclusive_subscription", "auth_order", "acl_order")


def test_lines_that_say_what_the_new_release_does_anyway_are_dropped(node_factory):
    """Facts 4.3: a stock 4.3.22 configuration, which 4.4.0 does not boot with."""
    m = node_factory(version="4.3.22")
    m.write(CONF, "[Upgrade]\nAllowLostFixes=yes\nConfigConflicts=drop-defaults\n", mode=0o644)
    before, conf = node_files(m), m.run("cat /etc/emqx/emqx.conf").stdout

    # Another value is the operator's wish, and so is one in the environment; a file that is included is not adapted.
    m.run("sed -i 's/^auth_order = none/auth_order = jwt,http/' /etc/emqx/emqx.conf")
    refused(m, says=["it has no setting ", "auth_order (/etc/emqx/emqx.conf:"])
    m.run("sed -i 's/^auth_order = jwt,http/auth_order = none/; /^acl_order/d' /etc/emqx/emqx.conf && "
          "echo 'acl_order = none' >/root/more.conf && chmod 755 /root && echo 'include /root/more.conf' >>/etc/emqx/emqx.conf")
    code, shown = plan(m)
    assert code != 0 and "acl_order (/root/more.conf:1)" in shown, shown
    m.write("/etc/emqx/emqx.conf", conf, mode=0o600)
    m.run("chown emqx:emqx /etc/emqx/emqx.conf; touch -d @%s /etc/emqx/emqx.conf" % before["etc"]["emqx.conf"][4])
    assert node_files(m) == before
    code, shown = plan(m)
    assert code == 0 and all(f"{key} (/etc/emqx/emqx.conf:" in shown for key in DROPPED), shown

    assert start(m).returncode == 0
    assert_node_is(m, "4.4.0")
    adapted = m.run("cat /etc/emqx/emqx.conf").stdout
    for key in DROPPED:
        (line,) = [x for x in conf.splitlines() if x.startswith(f"{key} = ")]
        note = adapted.splitlines()[adapted.splitlines().index(f"#{line}") - 1]
        assert note.startswith("# Taken out by emqx-upgrade on ") and "4.4.0 has no such setting" in note, note
    kept = [x for x in adapted.splitlines() if not x.startswith("# Taken out by")]
    assert [x[1:] if x[1:] in conf.splitlines() and x.startswith(tuple("#" + k for k in DROPPED)) else x
            for x in kept] == conf.splitlines()
    assert m.run("stat -c '%U %G %a' /etc/emqx/emqx.conf").stdout == "emqx emqx 600\n"
    assert {n: e for n, e in node_files(m)["etc"].items() if n != "emqx.conf"} == \
        {n: e for n, e in before["etc"].items() if n != "emqx.conf"}

    (told,) = status(m)["plan"]["adapted"]
    assert told["file"] == "/etc/emqx/emqx.conf" and set(told["dropped"]) == set(DROPPED)
    assert all(any(f" {key}," in e["MESSAGE"] for e in events(m, "setting-dropped")) for key in DROPPED)
    assert "auth_order in /etc/emqx/emqx.conf" in m.run("emqx-upgrade status").stdout

    # The operator's changes, against the defaults of 4.4.0; no secret, whatever it is.
    shown = m.run("emqx-upgrade diff").stdout
    assert "--- 4.4.0-defaults/emqx.conf" in shown and "\n-mqtt.max_packet_size = 1MB\n+mqtt.max_packet_size = 2MB\n" in shown
    assert "emqxsecretcookie" not in shown and "psk.txt" not in shown and not m.run(f"ls -d {STATE}/diff*", check=False).stdout

    assert m.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(m, "4.3.22")
    assert node_files(m) == before and m.run("cat /etc/emqx/emqx.conf").stdout == conf


def test_configuration_edited_while_the_upgrade_is_prepared(node_factory):
    m = node_factory()
    m.write("/etc/emqx-upgrade/hooks.d/edit", "#!/bin/sh\n[ $1 = undrain ] || echo '# edited' >>/etc/emqx/emqx.conf\n", mode=0o755)
    refused(m, says=["the configuration, as it was when the new version was asked about it, was edited"])
    assert_node_is(m, "4.3.12")
