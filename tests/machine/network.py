# SPDX-License-Identifier: Apache-2.0
"""Network: a bridge in a network namespace of its own, and machines on it: 10.99.0.1, .2, … This host's own network is
not touched."""

import os
import pathlib
import shutil
import subprocess
import uuid

from .cache import digest
from .machine import claim_work, remove_dead_runs, WORK

#: Runs that work elsewhere have networks too, and none of their directories here.
PREFIX = f"eu-{digest(WORK)[:4]}"


class Network:
    def __init__(self):
        self.name = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
        self._next = 1
        self.work, self._lock = claim_work(self.name)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run(["ip", "link", "add", "br0", "type", "bridge"])
        self.run(["ip", "addr", "add", "10.99.0.254/24", "dev", "br0"])
        self.run(["ip", "link", "set", "br0", "up"])
        self.run(["ip", "link", "set", "lo", "up"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        shutil.rmtree(self.work, ignore_errors=True)
        self._lock.close()

    def run(self, argv, check=True, **kwargs):
        """On the network, outside of its machines."""
        return subprocess.run(["ip", "netns", "exec", self.name, *argv], check=check, capture_output=True, text=True, **kwargs)

    def nspawn_options(self, machine):
        """Before boot: the machine gets one end of a veth pair, moved into it when it is up."""
        if not machine.address:
            machine.address = f"10.99.0.{self._next}"
            self._next += 1
        return ["--private-network"]

    def configure(self, machine):
        number = machine.address.rsplit(".", 1)[1]
        outer = f"m{number}"
        self.run(["ip", "link", "del", outer], check=False)
        # The same hardware address at every boot: neighbours remember it.
        self.run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "host0", "address", f"02:00:0a:63:00:{int(number):02x}",
                  "netns", str(machine.leader)])
        self.run(["ip", "link", "set", outer, "master", "br0", "up"])
        machine.run(["ip", "addr", "add", f"{machine.address}/24", "dev", "host0"])
        machine.run(["ip", "link", "set", "host0", "up"])
        machine.run(["ip", "route", "add", "default", "via", "10.99.0.254"])


def remove_dead_networks():
    """Those of runs that were killed: a run that lives has its directory, which remove_dead_runs() leaves."""
    remove_dead_runs()
    for path in pathlib.Path("/run/netns").glob(f"{PREFIX}-*") if os.path.isdir("/run/netns") else []:
        if not (WORK / path.name).exists():
            subprocess.run(["ip", "netns", "del", path.name], check=False)
