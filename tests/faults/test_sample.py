# SPDX-License-Identifier: Apache-2.0
"""A seeded sample of the campaign: a point of the programs that matter most, with a fault each; what systemd, a reboot or
the other file systems do, the campaign and test_interruptions.py see to.

EMQX_UPGRADE_TEST_SEED=N takes other points. The seed and the point are printed, with how to try that point again."""

import os
import pathlib
import random
import runpy
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import points  # noqa: E402
import rig  # noqa: E402
import run  # noqa: E402

SEED = os.environ.get("EMQX_UPGRADE_TEST_SEED", "1")
N_TRIES = 6
SAMPLE = [
    ("there", "kill", "conduct.0"), ("there", "kill", "dpkg--install.0"), ("there", "ENOSPC", "step-backup.0"),
    ("there", "EIO", "step-restore.0"), ("there", "EROFS", "dpkg--install.0"), ("there", "EDQUOT", "conduct.0"),
    ("there", "kill", "step-archive.0:unlinkat"), ("there", "power", "conduct.0"), ("there", "full", "dpkg--install.0"),
    ("there", "unit-kill", "dpkg--remove.0"), ("there", "oom", "step-backup.0"), ("there", "dbus", "conduct.0:MESSAGE=commit: "),
    ("back", "kill", "step-backup--undo.0"), ("restarted", "kill", "conduct.1"), ("booted", "kill", "resume.0"),
    ("booted", "EIO", "resume.0"),
]


@pytest.fixture(scope="module")
def work():
    return {way: rig.Rig("deb", way) for way in {way for way, _, _ in SAMPLE}}


@pytest.mark.parametrize("way, fault, key", SAMPLE)
def test_one_fault(work, way, fault, key):
    recorded = points.recorded(work[way])
    found = recorded.points + points.moments(100, recorded.took_ms * 9 // 10, SEED)
    key, _, part = key.partition(":")
    mine = [p for p in found if p.key == key and part in p.line and points.sort(p) in run.SORTS[fault] and run.fits(fault, p)]
    assert mine, f"an upgrade that nobody disturbs does nothing in {key} {part}"
    # What a node has written between two passes differs from run to run, and so does what is done about it: a point of the
    # recorded run that another one never comes to is no place for a fault.
    for point in random.Random(f"{SEED} {fault} {key}").sample(mine, min(N_TRIES, len(mine))):
        print(f"seed {SEED}; again: tests/faults/campaign --way {way} --fault {fault} --point {point.key}:{point.call}:{point.n}")
        print(point.line)
        result = run.run_point(work[way], fault, point, recorded)
        if result["hit"] or result["losses"]:
            break
    assert not result["losses"], "\n".join(result["losses"]) + f"\n{result['journal']}"
    assert result["hit"], "the fault did not come about"


def test_mutants_have_their_places():
    mutants = runpy.run_path(str(pathlib.Path(__file__).with_name("mutants")))
    assert len(mutants["MUTANTS"]) >= 10
    mutants["check_places"](pathlib.Path(__file__).parents[2])
