"""The scheduler answers as a real one did, which tools/record_scheduler.py asked."""

from __future__ import annotations

import pathlib
import random
from typing import Any

import pytest
import yaml

from kybern.scheduler import cycle, preempt
from kybern.scheduler.profile import default_profile
from kybern.testing import scheduler_worlds

ANSWERS = pathlib.Path(__file__).parent / "answers"


def load(name: str, part: str) -> dict[str, Any]:
    found = yaml.safe_load((ANSWERS / f"{name}.{part}.yaml").read_text())
    assert isinstance(found, dict)
    return found


NAMES = sorted(p.name.split(".")[0] for p in ANSWERS.glob("*.world.yaml"))
CASES = [(name, case) for name in NAMES for case in load(name, "world")["cases"]]
PROFILE = default_profile()


def answer(world: dict[str, Any], case: str) -> dict[str, Any]:
    cluster = scheduler_worlds.build(world)
    pod = scheduler_worlds.pod("incoming", world["cases"][case], world.get("priorities"))
    found = set()
    for seed in range(8):
        decision, outcome = cycle.decide(pod, cluster, PROFILE, random.Random(seed))
        if not decision.node:
            break
        found.add(decision.node)
    else:
        return {"nodes": sorted(found)}
    preemption = preempt.plan_preemption(pod, cluster, outcome, PROFILE.filters)
    result: dict[str, Any] = {
        "message": cycle.render_failure(decision.nodes, outcome, preemption.message),
        "reason": "Unschedulable",
    }
    if preemption.node:
        result |= {"nominated": preemption.node, "victims": sorted(v.name for v in preemption.victims)}
    return result


@pytest.mark.parametrize(("name", "case"), CASES)
def test_it_answers_as_a_real_scheduler(name: str, case: str) -> None:
    assert answer(load(name, "world"), case) == load(name, "answers")[case]
