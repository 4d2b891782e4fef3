"""Disruption budgets: numbers by kind of budget, evicted pods on their way, controllers of every kind."""

import pytest

from kybern.api.apps_v1 import Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec
from kybern.api.core_v1 import Pod, PodCondition, PodStatus
from kybern.api.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from kybern.api.policy_v1 import PodDisruptionBudget, PodDisruptionBudgetSpec
from kybern.testing import control_plane


def pod(name, ready=True, owner=None):
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="default", labels={"app": "x"}, ownerReferences=[owner] if owner is not None else []
        ),
        status=PodStatus(phase="Running", conditions=[PodCondition(type="Ready", status="True" if ready else "False")]),
    )


def budget(**spec):
    return PodDisruptionBudget(
        metadata=ObjectMeta(name="pdb", namespace="default"),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(matchLabels={"app": "x"}), **spec),
    )


def owned_by_deployment(plane, replicas):
    deployment = plane.api.put(
        Deployment(metadata=ObjectMeta(name="d", namespace="default"), spec=DeploymentSpec(replicas=replicas))
    )
    meta = ObjectMeta(name="rs", namespace="default", ownerReferences=[reference(deployment)])
    return reference(plane.api.put(ReplicaSet(metadata=meta, spec=ReplicaSetSpec(replicas=3))))


def reference(owner):
    return OwnerReference(
        apiVersion=owner.apiVersion, kind=owner.kind, name=owner.metadata.name, uid=owner.metadata.uid, controller=True
    )


def run(scenario):
    return control_plane.run(["disruption-controller"], scenario, node=False)


def numbers(plane):
    status = plane.api.get(PodDisruptionBudget, "default", "pdb").status
    return status.expectedPods, status.desiredHealthy, status.currentHealthy, status.disruptionsAllowed


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 2}, (4, 2, 3, 1)),
        ({"minAvailable": 5}, (4, 5, 3, 0)),
        ({"minAvailable": "50%"}, (10, 5, 3, 0)),
        ({"minAvailable": "25%"}, (10, 3, 3, 0)),
        ({"minAvailable": "0%"}, (10, 0, 3, 3)),
        ({"maxUnavailable": 8}, (10, 2, 3, 1)),
        ({"maxUnavailable": "75%"}, (10, 2, 3, 1)),
        ({"maxUnavailable": "100%"}, (10, 0, 3, 3)),
        ({"maxUnavailable": 20}, (10, 0, 3, 3)),
    ],
)
def test_the_numbers_follow_the_budget(spec, expected):
    async def scenario(plane):
        owner = owned_by_deployment(plane, 10)
        for number in range(4):
            plane.api.put(pod(f"p{number}", ready=number > 0, owner=owner))
        await plane.client.create(budget(**spec))
        await plane.clock.sleep(1)
        return numbers(plane)

    assert run(scenario) == expected


def test_the_condition_tells_whether_a_disruption_is_allowed():
    async def scenario(plane):
        plane.api.put(pod("a"))
        await plane.client.create(budget(minAvailable=1))
        await plane.clock.sleep(1)
        first = plane.api.get(PodDisruptionBudget, "default", "pdb").status
        plane.api.put(pod("b"))
        await plane.clock.sleep(1)
        return first, plane.api.get(PodDisruptionBudget, "default", "pdb").status

    first, second = run(scenario)
    assert [(c.type, c.status, c.reason) for c in first.conditions] == [
        ("DisruptionAllowed", "False", "InsufficientPods")
    ]
    assert [(c.status, c.reason) for c in second.conditions] == [("True", "SufficientPods")]


def test_an_evicted_pod_counts_as_gone_until_it_is_saved_by_time():
    async def scenario(plane):
        for name in "abc":
            plane.api.put(pod(name))
        await plane.client.create(budget(minAvailable=1))
        await plane.clock.sleep(1)

        def evict(found):
            found.status.disruptedPods["a"] = "2026-01-01T00:00:01Z"

        plane.api.edit(PodDisruptionBudget, "default", "pdb", evict)
        await plane.clock.sleep(10)
        amid = numbers(plane)
        await plane.clock.sleep(150)
        return amid, numbers(plane), plane.api.get(PodDisruptionBudget, "default", "pdb").status.disruptedPods

    assert run(scenario) == ((3, 1, 2, 1), (3, 1, 3, 2), {})


def test_pods_without_a_controller_do_not_count_for_a_share():
    async def scenario(plane):
        plane.api.put(pod("a"))
        await plane.client.create(budget(maxUnavailable=1))
        await plane.clock.sleep(1)
        return numbers(plane)

    assert run(scenario) == (0, 0, 1, 0)


def test_a_budget_without_pods_allows_nothing():
    async def scenario(plane):
        await plane.client.create(budget(minAvailable=0))
        await plane.clock.sleep(1)
        return numbers(plane)

    assert run(scenario) == (0, 0, 0, 0)
