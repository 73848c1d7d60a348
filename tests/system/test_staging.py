# SPDX-License-Identifier: Apache-2.0
"""What is copied while the node serves, ahead of time or not, and what is still copied while it is down."""

import json
import re
import time

import pytest

from upgrade import (DONE, STATE, assert_node_is, assert_nothing_is_left, backup_trees, event_names, events, exit_status, node_files, retained,
                     start, status, tree)

STAGE = "emqx-upgrade-stage@4.4.0.service"
BULK_FILES = 400


def add_data(m):
    """Much that does not change any more, and is old enough to be vouched for."""
    m.run(f"mkdir {m.data}/bulk && cd {m.data}/bulk && for i in $(seq {BULK_FILES}); do echo $i >f$i; done && chown -R emqx:emqx .")
    time.sleep(0.5)


def change_data(m):
    """In every way: content under the same size and time, mode, name, more, less, and a link."""
    m.run(f"""cd {m.data}/bulk && touch -r f1 /run/time && echo X >f1 && touch -r /run/time f1 && chmod 600 f2 && mv f3 renamed &&
              rm f4 && echo more >>f5 && ln f6 link && mkdir new && echo new >new/file && rm f7 && ln -s f8 f7""")


def copied(m, step):
    """How many files step has copied, as it says itself."""
    said = [e["MESSAGE"] for e in events(m, "tree-copied") if e["EMQX_UPGRADE_STEP"] == step]
    return sum(int(message.split("; ")[1].split()[0]) for message in said)


@pytest.mark.parametrize("kind", ["deb", "rpm", "zip"])
def test_upgrade_takes_over_what_was_staged_ahead(kind, node):
    messages = retained(node, node.n_retained)
    add_data(node)
    pid = node.unit("emqx.service")["MainPID"]
    node.run(["systemctl", "start", STAGE], timeout=120)
    assert node.unit("emqx.service")["MainPID"] == pid and event_names(node).count("upgrade-staged") == 1
    assert_node_is(node, "4.3.12")
    (staged,) = node.run(f"ls {STATE}/backups").stdout.split()
    assert node.run(f"ls {STATE}/backups/{staged}/tree/data/bulk | wc -l").stdout.split() == [str(BULK_FILES)]

    node.run(["systemctl", "start", STAGE], timeout=120)  # again: it is one staging still
    assert len(node.run(f"ls {STATE}/backups").stdout.split()) == 1
    assert [b["form"] for b in json.loads(node.run(["emqx-upgrade", "backups", "list", "--json"]).stdout)] == ["staged"]
    assert re.search(r"data +\d+ ms +two passes over the data", node.run(["emqx-upgrade", "plan", "4.4.0"]).stdout)
    change_data(node)
    files = node_files(node)
    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    (backup,) = node.run(f"ls {STATE}/backups").stdout.split()
    assert backup == status(node)["plan"]["id"] and not node.exists(f"{STATE}/backups/{backup}/staged")
    assert tree(node, f"{backup_trees(node, backup)}/data/bulk", without=()) == tree(node, f"{node.data}/bulk", without=())
    after = node_files(node)
    assert {n: e for n, e in after["data"].items() if n.startswith("bulk")} == \
        {n: e for n, e in files["data"].items() if n.startswith("bulk")}
    assert 0 < copied(node, "backup") < BULK_FILES / 2
    assert {**messages, **retained(node, node.n_retained)} == messages
    if kind == "zip":
        assert len(node.run(f"ls -d {node.root_dir}.emqx-upgrade-*").stdout.split()) == 1


def room_needed(m):
    """What a plan asks for in the state directory, whose disk is full, in MiB."""
    m.fill_disk(STATE, leave_bytes=8 << 20)
    said = m.run(["emqx-upgrade", "plan", "4.4.0"], check=False)
    m.free_disk(STATE)
    return int(re.search(r"needs\s+(\d+)\s+MiB", said.stdout + said.stderr).group(1))


def test_room_for_what_was_staged_is_not_asked_for_again(node_factory):
    node = node_factory(disk="ext4")
    node.run(f"head -c 64M /dev/urandom >{node.data}/bulk && chown emqx: {node.data}/bulk")
    before = room_needed(node)
    node.run(["systemctl", "start", STAGE], timeout=120)
    assert 60 <= before - room_needed(node) <= 70
    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")


def test_what_changes_while_the_node_is_drained_is_copied_before_it_is_stopped(node):
    add_data(node)
    node.write("/etc/emqx-upgrade/hooks.d/writes", f"""#!/bin/sh
        [ "$1" = drain ] || exit 0
        for i in $(seq {BULK_FILES}); do echo drained >>{node.data}/bulk/f$i; done
        sleep 0.5
        """, mode=0o755)
    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    assert copied(node, "refresh") >= BULK_FILES
    assert copied(node, "backup") < BULK_FILES / 2
    assert node.run(f"grep -lx drained {node.data}/bulk/f* | wc -l").stdout.split() == [str(BULK_FILES)]


def test_staging_that_was_interrupted_or_never_used_is_in_nobodys_way(node_factory):
    node = node_factory(kind="deb")
    add_data(node)
    node.run(["systemctl", "start", "--no-block", STAGE])
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "stage" for e in events(node, "step-begun")), timeout=60, every=0.02)
    node.run(["systemctl", "kill", "--kill-whom=main", "-s", "KILL", STAGE], check=False)
    node.run(["systemctl", "stop", STAGE])
    assert start(node).returncode == 0 and exit_status(node) == DONE
    assert_node_is(node, "4.4.0")
    assert len(node.run(f"ls {STATE}/backups").stdout.split()) == 1

    # A staging that is refused leaves nothing.
    assert node.run(["systemctl", "start", "emqx-upgrade-stage@4.9.9.service"], check=False).returncode != 0
    assert len(node.run(f"ls {STATE}/backups").stdout.split()) == 1
    assert_nothing_is_left(node)
