from __future__ import annotations

from typing import Any

import pytest

from kybern.api.core_v1 import Container, Pod, PodSpec, PodStatus, ResourceRequirements
from kybern.api.resource_v1 import (
    DeviceClaim,
    DeviceRequest,
    DeviceSubRequest,
    ExactDeviceRequest,
    ResourceClaim,
    ResourceClaimSpec,
)
from kybern.api.scalars import Quantity
from kybern.machinery import usage


def amounts(text: str) -> dict[str, Quantity]:
    return {k: Quantity(v) for k, v in (part.split("=") for part in text.split())}


def container(requests: str = "", limits: str = "", **more: Any) -> Container:
    return Container(resources=ResourceRequirements(requests=amounts(requests), limits=amounts(limits)), **more)


def pod(*containers: Container, **spec: Any) -> Pod:
    return Pod(spec=PodSpec(containers=list(containers), **spec))


def exactly(name: str, **more: Any) -> DeviceRequest:
    return DeviceRequest(name="r", exactly=ExactDeviceRequest(deviceClassName=name, **more))


def first(*choices: tuple[str, int]) -> DeviceRequest:
    parts = [DeviceSubRequest(name=f"s{i}", deviceClassName=n, count=c) for i, (n, c) in enumerate(choices)]
    return DeviceRequest(name="f", firstAvailable=parts)


def shown(found: usage.Amounts) -> dict[str, str]:
    return {name: str(usage.render(name, amount)) for name, amount in found.items()}


def test_containers_add_up() -> None:
    both = pod(container("cpu=100m memory=1Mi", "cpu=1"), container("cpu=200m", "memory=1Gi"))
    assert shown(usage.pod_requests(both)) == {"cpu": "300m", "memory": "1Mi"}
    assert shown(usage.pod_limits(both)) == {"cpu": "1", "memory": "1Gi"}


def test_init_containers_run_one_after_the_other() -> None:
    made = pod(container("cpu=1"), initContainers=[container("cpu=3"), container("cpu=2 memory=1Gi")])
    assert shown(usage.pod_requests(made)) == {"cpu": "3", "memory": "1Gi"}


def test_sidecars_run_with_those_after_them() -> None:
    sidecar = container("cpu=1", restartPolicy="Always")
    assert shown(usage.pod_requests(pod(container("cpu=1"), initContainers=[container("cpu=2"), sidecar]))) == {
        "cpu": "2"
    }
    assert shown(usage.pod_requests(pod(container("cpu=1"), initContainers=[sidecar, container("cpu=2")]))) == {
        "cpu": "3"
    }


def test_overhead_is_requested_and_limited_where_there_is_a_limit() -> None:
    made = pod(container("cpu=1", "memory=1Gi"), overhead=amounts("cpu=250m memory=1Gi"))
    assert shown(usage.pod_requests(made)) == {"cpu": "1250m", "memory": "1Gi"}
    assert shown(usage.pod_limits(made)) == {"memory": "2Gi"}


def test_a_pods_own_resources_count_before_its_containers() -> None:
    whole = ResourceRequirements(requests=amounts("cpu=5"))
    assert shown(usage.pod_requests(pod(container("cpu=1 memory=1Mi"), resources=whole))) == {
        "cpu": "5",
        "memory": "1Mi",
    }


def test_a_pod_is_counted_under_all_its_names() -> None:
    made = pod(container("cpu=1 hugepages-2Mi=4Mi example.com/gpu=2", "cpu=2"))
    assert shown(usage.usage("pods", made)) == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "1",
        "requests.cpu": "1",
        "limits.cpu": "2",
        "hugepages-2Mi": "4Mi",
        "requests.hugepages-2Mi": "4Mi",
        "requests.example.com/gpu": "2",
    }


def test_a_pod_that_has_ended_only_exists() -> None:
    ended = pod(container("cpu=1"))
    ended.status = PodStatus(phase="Succeeded")
    assert shown(usage.usage("pods", ended)) == {"count/pods": "1"}


@pytest.mark.parametrize(
    ("requests", "gold", "silver"),
    [
        # As a v1.36 API server counts them.
        ([exactly("gold")], 1, None),
        ([exactly("gold", count=3)], 3, None),
        ([exactly("gold", allocationMode="All")], 32, None),
        ([exactly("gold", count=2), exactly("silver", count=4)], 2, 4),
        ([first(("gold", 2), ("silver", 3), ("gold", 5))], 5, 3),
        ([first(("gold", 2)), exactly("gold")], 3, None),
    ],
)
def test_a_claim_takes_as_many_devices_as_it_may_be_given(
    requests: list[DeviceRequest], gold: int, silver: int | None
) -> None:
    claim = ResourceClaim(spec=ResourceClaimSpec(devices=DeviceClaim(requests=requests)))
    wanted = {"count/resourceclaims.resource.k8s.io": "1"}
    for name, count in (("gold", gold), ("silver", silver)):
        if count is not None:
            wanted[f"{name}.deviceclass.resource.k8s.io/devices"] = str(count)
            wanted[f"requests.deviceclass.resource.kubernetes.io/{name}"] = str(count)
    assert shown(usage.usage("resourceclaims.resource.k8s.io", claim)) == wanted


def test_a_custom_resource_is_counted_by_name() -> None:
    assert shown(usage.usage("widgets.example.com", {"spec": {}})) == {"count/widgets.example.com": "1"}
