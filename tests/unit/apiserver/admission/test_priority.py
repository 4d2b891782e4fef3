from __future__ import annotations

import pytest

from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scheduling_v1 import PriorityClass
from kybern.testing.gate import Gate, pod


def priority_class(name: str, value: int, default: bool | None = None, policy: str | None = None) -> PriorityClass:
    meta = ObjectMeta(name=name)
    return PriorityClass(metadata=meta, value=value, globalDefault=default, preemptionPolicy=policy)


def test_a_pod_without_class_has_priority_zero() -> None:
    made = Gate().create(pod())
    assert (made.spec.priority, made.spec.preemptionPolicy) == (0, "PreemptLowerPriority")
    assert made.spec.priorityClassName is None


def test_the_class_gives_priority_and_policy() -> None:
    gate = Gate()
    gate.objects.put(priority_class("batch", -5, policy="Never"))
    made = gate.create(pod(priorityClassName="batch"))
    assert (made.spec.priority, made.spec.preemptionPolicy) == (-5, "Never")


def test_the_default_class_counts_for_those_who_say_nothing() -> None:
    gate = Gate()
    gate.objects.put(priority_class("normal", 10, default=True))
    made = gate.create(pod())
    assert (made.spec.priorityClassName, made.spec.priority) == ("normal", 10)


def test_a_missing_class_is_told() -> None:
    gate = Gate()
    refused = gate.refusal(gate.create, pod(priorityClassName="none"))
    assert refused == 'pods "p" is forbidden: no PriorityClass with name none was found'


@pytest.mark.parametrize("spec", [{"priority": 7}, {"preemptionPolicy": "Never"}])
def test_a_pod_cannot_say_another_value_than_its_class(spec: dict[str, object]) -> None:
    gate = Gate()
    assert "must not be provided in pod spec" in gate.refusal(gate.create, pod(**spec))
    assert gate.create(pod(priority=0, preemptionPolicy="PreemptLowerPriority")).spec.priority == 0


def test_there_is_one_default() -> None:
    gate = Gate()
    first = gate.objects.put(priority_class("one", 1, default=True))
    refused = gate.refusal(gate.create, priority_class("two", 2, default=True))
    assert refused.endswith("PriorityClass one is already marked as default. Only one default can exist")
    gate.update(first, first)
    gate.create(priority_class("three", 3))
