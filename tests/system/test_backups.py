# SPDX-License-Identifier: Apache-2.0
"""Backups: listed, verified, extracted, removed by rules and by name; and what becomes of one that cannot be archived."""

import json

import pytest

from upgrade import (REFUSED, STATE, USAGE, assert_node_is, backup_trees, event_names, events, exit_status, start, status,
                     tree, validator)

def copy_backup(m, own, letter, days, result, only_copy=False):
    """A backup with a record, made of another one: of an upgrade some days before. only_copy: no other has its old package."""
    record = json.loads(m.read(f"{STATE}/history/{own}.json"))
    plan = record["plan"]
    plan["id"] = letter * 8 + own[8:]
    record["result"] = result
    record["started_realtime_usec"] -= days * 86400 * 1000000
    if only_copy:
        plan["old_path"], plan["old_sha256"] = "/nowhere/" + plan["old_path"].split("/")[-1], "0" * 64
    m.run(f"cp -a {STATE}/backups/{own} {STATE}/backups/{plan['id']}")
    m.write(f"{STATE}/history/{plan['id']}.json", json.dumps(record), mode=0o600)
    return plan["id"]


def backups(m):
    told = json.loads(m.run("emqx-upgrade backups --json").stdout)
    validator("backups").validate(told)
    return told


def command(m, *args):
    return m.run(["emqx-upgrade", "backups", *args], check=False, timeout=120)


@pytest.fixture(scope="module")
def upgraded(boot_node):
    node = boot_node(kind="deb")
    try:
        assert start(node).returncode == 0
        yield node
    finally:
        node.stop()


def test_newest_is_listed_and_stays(upgraded):
    (told,) = backups(upgraded)
    assert told["id"] == status(upgraded)["plan"]["id"]
    assert (told["from"], told["to"], told["result"], told["form"]) == ("4.3.12", "4.4.0", "done", "archive")
    assert told["bytes"] > 0 and "newest" in told["kept"]
    assert told["id"] in command(upgraded).stdout
    assert command(upgraded, "prune").stdout == "All backups are to be kept.\n"
    refused = command(upgraded, "prune", told["id"])
    assert refused.returncode == REFUSED and "it is the newest" in refused.stderr
    assert len(backups(upgraded)) == 1


def test_whole_backup_is_verified_and_extracted(upgraded):
    assert "all is what its manifests say" in command(upgraded, "verify", "last").stdout
    made = command(upgraded, "extract", "last", "/root/out")
    assert made.returncode == 0, made.stderr
    saved = backup_trees(upgraded, status(upgraded)["plan"]["id"])
    for name in ("etc", "data"):
        assert tree(upgraded, f"/root/out/{name}", without=()) == tree(upgraded, f"{saved}/{name}", without=())
    again = command(upgraded, "extract", "last", "/root/out")
    assert again.returncode == REFUSED and "it is not empty" in again.stderr
    upgraded.run("mkdir /root/real && ln -s real /root/link")
    assert command(upgraded, "extract", "last", "/root/link").returncode == REFUSED


@pytest.mark.parametrize("args", [("verify",), ("verify", "../../etc"), ("verify", "f" * 32), ("extract", "last"), ("remove", "last"),
                                  ("list", "last"), ("prune", "x"), ("verify", "last", "--dry-run")])
def test_bad_usage_is_refused(upgraded, args):
    told = command(upgraded, *args)
    assert told.returncode == USAGE and told.stderr.startswith("emqx-upgrade: ")


def test_flipped_byte_is_found_and_nothing_is_touched_for_it(upgraded):
    archive = f"{STATE}/backups/{status(upgraded)['plan']['id']}/backup.tar.zst"
    upgraded.run(f"cp -a {archive} /root/whole && printf '\\377' | dd of={archive} bs=1 seek=5000 conv=notrunc")
    found = command(upgraded, "verify", "last")
    assert found.returncode == REFUSED and "backup.tar.zst" in found.stderr
    assert command(upgraded, "extract", "last", "/root/none").returncode == REFUSED
    assert upgraded.run("ls -A /root/none").stdout == ""

    pid = upgraded.unit("emqx.service")["MainPID"]
    assert upgraded.run("emqx-upgrade rollback", check=False, timeout=120).returncode != 0
    assert int(upgraded.unit("emqx-upgrade-rollback@last.service")["ExecMainStatus"]) == REFUSED
    assert upgraded.unit("emqx.service")["MainPID"] == pid
    assert_node_is(upgraded, "4.4.0")
    assert status(upgraded)["result"] == "done" and "nothing was touched" in events(upgraded, "upgrade-refused")[-1]["MESSAGE"]
    upgraded.run(f"mv /root/whole {archive}; systemctl reset-failed 'emqx-upgrade*'")
    assert command(upgraded, "verify", "last").returncode == 0


def test_rules_remove_what_may_go_and_nothing_else(upgraded):
    own = backups(upgraded)[0]["id"]
    old, failed = copy_backup(upgraded, own, "a", 10, "done"), copy_backup(upgraded, own, "b", 20, "rolled-back")
    only, oldest = copy_backup(upgraded, own, "c", 30, "done", only_copy=True), copy_backup(upgraded, own, "d", 40, "done")
    upgraded.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/keep.conf", "[Backup]\nKeepBackups=2\n", mode=0o644)
    would = command(upgraded, "prune", "--dry-run")
    assert would.stdout.count("would be removed: KeepBackups=2") == 1 and oldest in would.stdout
    assert len(backups(upgraded)) == 5
    assert {b["id"]: b.get("kept") for b in backups(upgraded)}[failed] == "its upgrade was not done"

    assert command(upgraded, "prune").returncode == 0
    left = [b["id"] for b in backups(upgraded)]
    assert left[1:] == [old, failed, only]
    (told,) = events(upgraded, "backup-removed")
    assert oldest in told["MESSAGE"] and "KeepBackups=2" in told["MESSAGE"]

    upgraded.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/keep.conf", "[Backup]\nKeepBackupsForSec=1week\n", mode=0o644)
    assert command(upgraded, "prune", only).returncode == REFUSED
    assert command(upgraded, "prune").returncode == 0
    assert [b["id"] for b in backups(upgraded)][1:] == [failed, only]
    assert command(upgraded, "prune", failed).returncode == 0  # by its name
    assert [b["id"] for b in backups(upgraded)][1:] == [only]
    assert sorted(upgraded.run(f"ls {STATE}/backups").stdout.split()) == sorted([left[0], only])


def test_upgrade_goes_on_without_an_archive_and_applies_the_rules(upgraded):
    """What stands in the way is put there by the hook that runs right before; the older backup goes all the same."""
    upgraded.run("emqx-upgrade rollback", timeout=300)
    back = status(upgraded)["plan"]["id"]
    assert upgraded.exists(f"{STATE}/backups/{back}/tree")
    assert "all is what its manifests say" in command(upgraded, "verify", back).stdout
    old = copy_backup(upgraded, back, "e", 50, "done")
    upgraded.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/keep.conf", "[Backup]\nKeepBackupsMaxBytes=1M\n", mode=0o644)
    upgraded.write("/etc/emqx-upgrade/hooks.d/break", "#!/bin/sh\n[ \"$1\" = undrain ] || exit 0\n"
                   f"mkdir {STATE}/backups/$EMQX_UPGRADE_ID/backup.tar.zst.part\n", mode=0o755)
    assert start(upgraded).returncode == 0
    assert exit_status(upgraded) == 0
    upgraded.run(f"rmdir {STATE}/backups/*/backup.tar.zst.part", check=False)
    told = status(upgraded)
    (step,) = [s for s in told["steps"] if s["name"] == "archive"]
    assert told["result"] == "done" and step["state"] == "failed" and "backup.tar.zst.part" in step["why"]
    assert len(events(upgraded, "step-given-up")) == 1 and event_names(upgraded)[-1] == "upgrade-done"
    assert_node_is(upgraded, "4.4.0")
    assert upgraded.exists(f"{STATE}/backups/{told['plan']['id']}/tree")
    left = [b["id"] for b in backups(upgraded)]
    assert old not in left and {told["plan"]["id"], back} <= set(left)
