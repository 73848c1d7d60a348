# SPDX-License-Identifier: Apache-2.0
"""A seeded sample of the campaign: a point of the programs that matter most, with a fault each.

EMQX_UPGRADE_TEST_SEED=N takes other points. The seed and the point are printed, with how to try that point again."""

import os
import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import points  # noqa: E402
import rig  # noqa: E402
import run  # noqa: E402

SEED = os.environ.get("EMQX_UPGRADE_TEST_SEED", "1")


@pytest.fixture(scope="module")
def work():
    return rig.Rig("deb")


@pytest.mark.parametrize("fault, key", [
    ("kill", "conduct"), ("kill", "step-stage"), ("kill", "step-backup"), ("kill", "dpkg--remove"), ("kill", "dpkg--install"),
    ("kill", "step-restore"), ("ENOSPC", "step-backup"), ("EIO", "step-restore"), ("EROFS", "dpkg--install"),
    ("EDQUOT", "conduct"), ("power", "dpkg--install"), ("power", "conduct"),
])
def test_one_fault(work, fault, key):
    found, _ = points.recorded(work)
    mine = [p for p in found if p.key == key]
    assert mine, f"a clean upgrade does nothing in {key}"
    point = random.Random(f"{SEED} {fault} {key}").choice(mine)
    _, done = points.recorded(work, run.disk_of(fault))

    print(f"seed {SEED}; again: tests/faults/campaign --fault {fault} --point {point.key}:{point.call}:{point.n}")
    print(point.line)
    result = run.run_point(work, fault, point, done)
    assert not result["losses"], "\n".join(result["losses"]) + f"\n{result['journal']}"
    assert result["hit"], "the fault did not come about"
