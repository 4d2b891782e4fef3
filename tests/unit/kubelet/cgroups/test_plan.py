"""Where cgroups are and what is written into them."""

import pytest

from kybern.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet.cgroups import plan
from kybern.kubelet.cgroups.plan import Limits


def pod(**amounts):
    limits = {k: Quantity(v) for k, v in amounts.items()}
    resources = ResourceRequirements(limits=limits, requests=limits)
    return Pod(metadata=ObjectMeta(uid="u1"), spec=PodSpec(containers=[Container(name="c", resources=resources)]))


def test_a_pods_group_is_below_that_of_its_class():
    assert plan.pod_path("", pod(cpu="1", memory="1Gi")) == "/kubepods/podu1"
    assert plan.pod_path("", pod(cpu="1")) == "/kubepods/burstable/podu1"
    assert plan.pod_path("/node-2/", pod()) == "/node-2/kubepods/besteffort/podu1"


def test_limits_are_the_sums_and_none_where_a_container_has_none():
    assert plan.pod_limits(pod(cpu="500m", memory="64Mi"), pids=10) == Limits(512, 50000, 64 << 20, 10)
    assert plan.pod_limits(pod()) == Limits(2, -1, -1, 0)


def test_the_files_of_version_one():
    files = plan.files_v1(Limits(512, 50000, 1024, 10))
    assert ("cpu", "cpu.cfs_quota_us", "50000") in files
    assert ("memory", "memory.limit_in_bytes", "1024") in files
    assert plan.files_v1(Limits(memory=-1)) == [("memory", "memory.limit_in_bytes", "-1")]


def test_the_files_of_version_two():
    assert plan.files_v2(Limits(1024, -1, -1)) == [
        ("cpu.weight", "39"),
        ("cpu.max", "max 100000"),
        ("memory.max", "max"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1)])
def test_shares_become_weights(shares, weight):
    assert plan.shares_to_weight(shares) == weight


def test_while_growing_the_larger_of_each_limit_holds():
    assert plan.widest(Limits(2, -1, 100), Limits(5, 10, 50)) == Limits(5, -1, 100)


def test_burstable_pods_together_weigh_what_they_ask_for():
    assert plan.burstable_shares([pod(cpu="1"), pod(cpu="500m"), pod(cpu="4", memory="1Gi")]) == 1536
