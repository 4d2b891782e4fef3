from __future__ import annotations

import pytest

from kybern.api.apps_v1 import Deployment
from kybern.api.core_v1 import Namespace, Service
from kybern.machinery.clock import Clock
from kybern.simulated import shape, workload
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi


@pytest.mark.parametrize(("nodes", "pods"), [(1, 1), (7, 3), (100, 10), (250, 11), (5000, 10)])
def test_there_are_as_many_pods_as_asked_for(nodes: int, pods: int) -> None:
    groups = workload.plan_workload(nodes, pods)
    assert sum(group.pods for group in groups) == nodes * pods
    assert len({(group.namespace, group.name) for group in groups}) == len(groups)
    assert all(group.pods > 0 for group in groups)


def test_the_mix_is_that_of_upstreams_load_test() -> None:
    sizes = workload.plan_sizes(1000)
    assert (sizes.count(250), sizes.count(30), sizes.count(5)) == (2, 8, 52)


def test_a_hundred_nodes_share_a_namespace() -> None:
    assert len({group.namespace for group in workload.plan_workload(5000, 10)}) == 50


def test_pods_stay_on_simulated_nodes() -> None:
    spec = workload.deployment_of(workload.Group("ns", "g", 3)).spec.template.spec
    assert spec.nodeSelector == {shape.TYPE_LABEL: shape.TYPE}
    assert [t.key for t in spec.tolerations] == [shape.TAINT.key]


def test_what_is_missing_is_created_and_what_is_there_left_alone() -> None:
    async def scenario(clock: Clock) -> None:
        api = FakeApi(clock)
        groups = workload.plan_workload(100, 1)
        await workload.apply_workload(api.client(), clock, groups)
        made = {(d.metadata.name, d.spec.replicas) for d in api.list(Deployment)}
        assert made == {(group.name, group.pods) for group in groups}
        assert len(api.list(Service)) == len(groups) and len(api.list(Namespace)) == 1
        versions = [d.metadata.resourceVersion for d in api.list(Deployment)]
        await workload.apply_workload(api.client(), clock, groups)
        assert [d.metadata.resourceVersion for d in api.list(Deployment)] == versions

    virtual.run(scenario)


def test_pods_are_not_asked_for_faster_than_told() -> None:
    async def scenario(clock: Clock) -> None:
        api = FakeApi(clock)
        began = clock.monotonic()
        await workload.apply_workload(api.client(), clock, workload.plan_workload(100, 10), pods_per_second=100.0)
        assert 7.0 <= clock.monotonic() - began <= 10.0  # the last ones asked for may be the biggest

    virtual.run(scenario)
