# SPDX-License-Identifier: Apache-2.0
"""Completion in each shell: real shells, asked by pressing the tabulator."""

import os
import pty
import select
import subprocess
import time

import pytest

from machine.cache import TOP

#: Packages and history of a host of its own; the shells run on this one.
HOST = """mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/emqx-upgrade/packages /var/lib/emqx-upgrade/history /var/lib/emqx-upgrade/backups/abc-1
cd /var/lib/emqx-upgrade
touch packages/emqx-ubuntu20.04-4.3.12-amd64.deb packages/emqx-4.4.0-otp24.1.5-3-ubuntu20.04-amd64.deb
touch packages/emqx-4.4.0-otp24.1.5-3-ubuntu20.04-amd64.deb.sha256 history/20261124-1.json
exec "$@"
"""

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {completions}/emqx-upgrade"),
    "zsh": (["zsh", "-f", "-i"], "fpath=({completions} $fpath); autoload -U compinit; compinit -D -u"),
    "fish": (["fish", "--no-config", "--interactive"], "source {completions}/emqx-upgrade.fish"),
}


class Terminal:
    def __init__(self, argv):
        self.master, slave = pty.openpty()
        self.shell = subprocess.Popen(["setsid", "--ctty", "--wait", "unshare", "-m", "sh", "-c", HOST, "sh", *argv], stdin=slave, stdout=slave, stderr=slave,
                                      env={**os.environ, "TERM": "dumb", "PS1": "ready> "})
        os.close(slave)
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, text, timeout=30):
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def end(self):
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)


@pytest.fixture(params=SHELLS)
def terminal(request):
    argv, load = SHELLS[request.param]
    t = Terminal(argv)
    try:
        t.type(load.format(completions=TOP / "completions") + "\r")
        t.type("echo lo''aded\r")
        t.wait_for("loaded")
        yield t
    finally:
        t.end()


def test_verbs_versions_and_ids_are_completed(terminal):
    terminal.type("emqx-upgrade rol\t20\t")
    terminal.wait_for("rollback")
    terminal.wait_for("20261124-1")
    terminal.type("\x15emqx-upgrade wat\t20\t")
    terminal.wait_for("watch")
    terminal.wait_for("20261124-1")
    terminal.type("\x15emqx-upgrade plan 4.4\t")
    terminal.wait_for("4.4.0")
    terminal.type("\x15emqx-upgrade sta\t--js\t")
    terminal.wait_for("status")
    terminal.wait_for("--json")
    terminal.type("\x15emqx-upgrade backu\tver\tab\t")
    terminal.wait_for("backups")
    terminal.wait_for("verify")
    terminal.wait_for("abc-1")
