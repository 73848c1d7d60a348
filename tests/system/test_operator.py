# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of upgrades that end in every way there is, one after the other on one node: watch, status, history,
report, metrics and notification, in their words and in their schemas."""

import contextlib
import html.parser
import json
import os
import pty
import re
import subprocess
import threading
import time

import pytest

from machine.cache import TOP, cached
from upgrade import PACKAGES, REFUSED, ROLLED_BACK, STATE, exit_status, start, status, validator

METRICS = "/var/lib/prometheus/node-exporter/emqx-upgrade.prom"
RECEIVER = r"""perl -MIO::Socket::INET -e '
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8099", Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept()) { my ($n, $body) = (0, "");
  while (my $l = <$c>) { $n = $1 if $l =~ /^content-length: (\d+)/i; last if $l =~ /^\r?$/ }
  read($c, $body, $n); open(my $f, ">>", "/run/notified"); print $f "$body\n---\n"; close $f;
  print $c "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"; close $c }'"""


class Page(html.parser.HTMLParser):
    VOID = ("meta", "br", "line", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")], attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


class Seen:
    """How one upgrade was seen from outside when it had ended."""
    def __init__(self, m, watched=None):
        self.watched = watched
        self.status, self.text = status(m), m.run("emqx-upgrade status", env={"COLUMNS": "80"}).stdout
        self.page = m.run("emqx-upgrade report").stdout
        self.metrics = m.run(["cat", METRICS]).stdout
        m.wait_until(lambda: self.status["plan"]["id"] in m.run("cat /run/notified", check=False).stdout, timeout=30)


def watch_on_terminal(m, run):
    """What `watch` writes on a terminal of 80 columns while run() is run, and its exit status."""
    master, slave = pty.openpty()
    watch = subprocess.Popen(m._argv("stty rows 24 cols 80; exec emqx-upgrade watch", None, {"TERM": "xterm", "LC_ALL": "C.UTF-8"}),
                             stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = []

    def read():
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(master, 65536):
                seen.append(data)
    reader = threading.Thread(target=read)
    reader.start()
    run()
    returncode = watch.wait(timeout=120)
    reader.join(timeout=30)
    os.close(master)
    return b"".join(seen).decode(errors="replace"), returncode


def wait_until_it_is_past(record):
    """Until `watch` does not take an upgrade for one that it has just missed."""
    time.sleep(max(0, record["ended_realtime_usec"] / 1e6 + 11 - time.time()))


@pytest.fixture(scope="module")
def seen(boot_node):
    """Refused, rolled back, done, and taken back by hand: in this order."""
    m = boot_node(target=None)
    try:
        m.run(f"mkdir -p {METRICS.rsplit('/', 1)[0]}")
        m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/90-operator.conf",
                f"[Upgrade]\nStartTimeoutSec=20s\nRequireAcceptedConfiguration=no\n[Metrics]\nTextfileDirectory={METRICS.rsplit('/', 1)[0]}\n",
                mode=0o644)
        version = int(m.run("systemctl --version").stdout.split()[1])
        conf = "notify.conf" if version >= 249 else "notify-before-249.conf"
        for name, to in (("emqx-upgrade-notify", "/usr/local/sbin"), ("emqx-upgrade-notify@.service", "/etc/systemd/system"),
                         (conf, "/etc/systemd/system/emqx-upgrade@.service.d"),
                         (conf, "/etc/systemd/system/emqx-upgrade-rollback@.service.d")):
            m.run(f"mkdir -p {to} && cp /usr/share/doc/emqx-upgrade/examples/notify/{name} {to}/")
        m.run("chmod 755 /usr/local/sbin/emqx-upgrade-notify; "
              "sed -i 's,https://ops.example.com/emqx-upgrades,http://127.0.0.1:8099/,' /etc/systemd/system/emqx-upgrade-notify@.service; "
              "systemctl daemon-reload")
        receiver = m.spawn(RECEIVER)

        ends = {"node": m, "none": m.run("emqx-upgrade status --json", user="nobody").stdout,
                "interrupted": m.run("timeout --preserve-status -s INT 1 emqx-upgrade watch", check=False)}
        assert start(m).returncode != 0
        ends["refused"] = Seen(m)
        m.push_package("4.4.0-no-start")
        wait_until_it_is_past(ends["refused"].status)
        watch = m.spawn("emqx-upgrade watch", stdout=subprocess.PIPE, text=True)
        assert start(m).returncode != 0
        ends["rolled-back"] = Seen(m, (watch.communicate(timeout=60)[0], watch.returncode))
        m.run(f"rm {PACKAGES}/*4.4.0*; systemctl reset-failed")
        m.push_package("4.4.0")
        wait_until_it_is_past(ends["rolled-back"].status)
        watched = watch_on_terminal(m, lambda: start(m))
        ends["done"] = Seen(m, watched)
        m.run("emqx-upgrade rollback", timeout=120)
        ends["taken-back"] = Seen(m)
        m.run("journalctl --rotate && rm /var/log/journal/*/*@*.journal")
        ends["without-journal"] = m.run("emqx-upgrade report").stdout
        receiver.kill()
        yield ends
    finally:
        m.stop()


def test_json_is_what_the_schemas_say(seen):
    for how in ("refused", "rolled-back", "done", "taken-back"):
        validator("status").validate(seen[how].status)
    validator("status").validate(json.loads(seen["none"]))
    history = json.loads(seen["node"].run("emqx-upgrade history --json").stdout)
    assert [r["result"] for r in history] == ["rolled-back", "rolled-back", "refused"]
    validator("history").validate(history)
    installed = seen["node"].run("ls /usr/share/emqx-upgrade/schema").stdout.split()
    assert installed == sorted(p.name for p in (TOP / "schema").glob("*.json"))


def test_status_says_what_was_and_what_to_do_now_in_80_columns(seen):
    says = {"refused": ("refused", "look again: emqx-upgrade plan 4.4.0"),
            "rolled-back": ("rolled back", "The node runs 4.3.12 as before."), "done": ("is done", "emqx-upgrade rollback"),
            "taken-back": ("rolled back", "Asked for by the operator")}
    for how, texts in says.items():
        shown = " ".join(seen[how].text.split())
        assert all(text in shown for text in texts), shown
        assert "\x1b" not in seen[how].text
        # A path, or a term of Erlang's, stays whole, to be copied.
        assert [line for line in seen[how].text.splitlines() if len(line) > 80 and len(line.split()) > 2] == []
    assert seen["rolled-back"].status["cause"].split()[0] in seen["rolled-back"].text
    assert "What now" in seen["node"].run("emqx-upgrade status", env={"LC_ALL": "C"}).stdout
    assert seen["node"].run("emqx-upgrade status", env={"LC_ALL": "C"}).stdout.isascii()


def test_watch_writes_lines_and_exits_as_the_upgrade_did(seen):
    text, returncode = seen["rolled-back"].watched
    assert returncode == ROLLED_BACK
    for line in (r"^\d\d:\d\d:\d\d stage: done in ", r"Going back: start: ", r"remove: undone in ",
                 r"The node is down for ", r"was rolled back"):
        assert re.search(line, text, re.M), text
    m = seen["node"]
    for how, expected in (("refused", REFUSED), ("rolled-back", ROLLED_BACK)):
        assert m.run(["emqx-upgrade", "watch", seen[how].status["plan"]["id"]], check=False).returncode == expected
    assert m.run("emqx-upgrade watch nonsense", check=False).returncode == 2
    assert exit_status(m) == 0  # of the last upgrade: no watching has changed it


def test_watch_draws_on_a_terminal_and_leaves_it_as_it_was(seen):
    text, returncode = seen["done"].watched
    assert returncode == 0, text[-2000:]
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1 and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    screen, after = text.split("\x1b[?1049l")
    for drawn in ("█", "put configuration and data back", "The node is down for "):
        assert drawn in screen, screen[-3000:]
    assert "is done" in after and "What now" in after


def test_ctrl_c_ends_the_watching(seen):
    watch = seen["interrupted"]
    assert watch.returncode == 130 and "waiting for one to begin" in watch.stderr


def test_report_is_one_well_formed_page(seen):
    for how in ("refused", "rolled-back", "done", "taken-back"):
        page = Page(seen[how].page)
        assert "svg" in page.tags and not page.tags & {"script", "link", "img", "iframe"}
        assert seen[how].status["plan"]["id"] in page.text and "What to do now" in page.text
        assert "all tables are loaded" in page.text or how == "refused"
        assert "upgrade-started" in page.text or "Upgrading EMQX" in page.text
    assert "How to go back" in seen["done"].page and "Setting up emqx (4.4.0)" in seen["done"].page
    assert "The way back" in seen["rolled-back"].page and "How to go back" not in seen["rolled-back"].page
    assert "The journal has no entries" in seen["without-journal"] and "all tables are loaded" in Page(seen["without-journal"]).text


def test_report_goes_where_it_is_told(seen):
    m = seen["node"]
    m.run(["emqx-upgrade", "report", "-o", "/root/report.html", seen["done"].status["plan"]["id"]])
    assert m.run("stat -c %a /root/report.html").stdout.strip() == "600"
    assert Page(m.run("cat /root/report.html").stdout).text
    failed = m.run("emqx-upgrade report -o /nonexistent/report.html", check=False)
    assert failed.returncode == 1 and "/nonexistent/report.html" in failed.stderr
    none = m.run(["emqx-upgrade", "report", "0" * 32], check=False)
    assert none.returncode == 1 and "There is no upgrade" in none.stderr


@pytest.fixture(scope="module")
def promtool():
    """Out of Debian's package, which would start a server if it were installed."""
    def make(path):
        subprocess.run("apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download prometheus && dpkg-deb -x prometheus_*.deb . && "
                       "mv usr/bin/promtool . && rm -r etc lib usr var *.deb", shell=True, cwd=path, check=True)
    return cached("promtool", "1", make) / "promtool"


def test_metrics_are_those_of_the_last_upgrade(seen, promtool):
    for how in ("refused", "rolled-back", "done"):
        checked = subprocess.run([promtool, "check", "metrics"], input=seen[how].metrics, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        assert f'emqx_upgrade_last_result{{result="{how}"}} 1' in seen[how].metrics
        assert f'id="{seen[how].status["plan"]["id"]}"' in seen[how].metrics
    assert 'emqx_upgrade_last_result{result="rolled-back"} 1' in seen["taken-back"].metrics
    down = float(re.search(r"^emqx_upgrade_last_downtime_seconds (\S+)$", seen["done"].metrics, re.M)[1])
    assert abs(down - seen["done"].status["downtime_usec"] / 1e6) < 0.001
    assert seen["node"].run(["stat", "-c", "%a", METRICS]).stdout.strip() == "644"


def test_somebody_is_told_of_every_end(seen):
    told = [json.loads(body) for body in seen["node"].run("cat /run/notified").stdout.split("---\n") if body.strip()]
    ids = [record["plan"]["id"] for record in told]
    assert {seen[how].status["plan"]["id"] for how in ("refused", "rolled-back", "done")} <= set(ids)
    assert [r["result"] for r in told if r["plan"]["id"] == seen["done"].status["plan"]["id"]] == ["done", "rolled-back"]
    assert not seen["node"].exists(f"{STATE}/transaction")
