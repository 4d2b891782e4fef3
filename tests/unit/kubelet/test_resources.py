"""Sums, quality of service and the runtime's units."""

import pytest

from kybern.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from kybern.api.scalars import Quantity
from kybern.kubelet import resources


def container(name="c", *, cpu="", memory="", cpu_limit="", memory_limit="", restart=None):
    def amounts(**given):
        return {k: Quantity(v) for k, v in given.items() if v}

    return Container(
        name=name,
        restartPolicy=restart,
        resources=ResourceRequirements(
            requests=amounts(cpu=cpu, memory=memory), limits=amounts(cpu=cpu_limit, memory=memory_limit)
        ),
    )


def pod(*containers, init=(), **spec):
    return Pod(spec=PodSpec(containers=list(containers), initContainers=list(init), **spec))


def test_quality_of_service_follows_requests_and_limits():
    full = container(cpu="1", memory="1Gi", cpu_limit="1", memory_limit="1Gi")
    assert resources.qos_class(pod(container())) == "BestEffort"
    assert resources.qos_class(pod(full)) == "Guaranteed"
    assert resources.qos_class(pod(container(cpu_limit="1", memory_limit="1Gi"))) == "Guaranteed"
    assert resources.qos_class(pod(full, container("d"))) == "Burstable"
    assert resources.qos_class(pod(container(cpu="1"))) == "Burstable"
    assert resources.qos_class(pod(full, init=[container("i", cpu="1")])) == "Burstable"


def test_init_containers_count_by_their_peak_and_sidecars_add_up():
    asked = resources.pod_requests(
        pod(
            container("a", cpu="300m"),
            container("b", cpu="200m"),
            init=[container("s", cpu="100m", restart="Always"), container("i", cpu="1")],
            overhead={"cpu": Quantity("10m")},
        )
    )
    assert asked["cpu"] == "1110m"  # init beside the sidecar, 1100m, is more than what runs later, 600m


def test_a_limit_counts_for_the_pod_only_if_every_container_has_one():
    assert resources.pod_limits(pod(container("a", cpu_limit="1"), container("b", cpu_limit="1")))["cpu"] == "2"
    assert "cpu" not in resources.pod_limits(pod(container("a", cpu_limit="1"), container("b")))


@pytest.mark.parametrize(
    ("milli", "shares", "quota"), [(0, 2, 0), (1, 2, 1000), (100, 102, 10000), (1500, 1536, 150000)]
)
def test_cpu_becomes_shares_and_quota(milli, shares, quota):
    assert resources.cpu_shares(milli) == shares
    assert resources.cpu_quota(milli) == quota


def test_the_kernel_kills_best_effort_first_and_guaranteed_last():
    capacity = 10 << 30
    burst = container(memory="1Gi")
    full = container(cpu="1", memory="1Gi", cpu_limit="1", memory_limit="1Gi")
    assert resources.oom_score_adj(pod(container()), container(), capacity) == 1000
    assert resources.oom_score_adj(pod(burst), burst, capacity) == 900
    assert resources.oom_score_adj(pod(full), full, capacity) == -997
    huge = container(memory="100Gi")
    assert resources.oom_score_adj(pod(huge), huge, capacity) == 3


def test_what_the_runtime_gets_of_a_container():
    one = container(cpu="100m", memory="64Mi", cpu_limit="200m", memory_limit="128Mi")
    got = resources.container_resources(pod(one), one, 1 << 30, unified=True)
    assert (got.cpu_shares, got.cpu_quota, got.cpu_period, got.memory_limit) == (102, 20000, 100000, 128 << 20)
    assert got.unified == {"memory.oom.group": "1"}
    free = resources.container_resources(pod(container()), container(), 1 << 30, unified=False)
    assert (free.cpu_quota, free.memory_limit, free.unified) == (0, 0, {})


def test_only_known_resources_can_be_selected():
    with pytest.raises(ValueError, match="unsupported container resource"):
        resources.resource_field(pod(container()), container(), "limits.gpu", "", {})
