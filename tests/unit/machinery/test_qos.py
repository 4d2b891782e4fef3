"""Quality of service. Source: "Pod Quality of Service Classes"."""

from __future__ import annotations

import pytest

from kybern.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from kybern.api.scalars import Quantity
from kybern.machinery import qos


def amounts(**values: str) -> dict[str, Quantity]:
    return {name: Quantity(value) for name, value in values.items()}


def container(requests: dict[str, Quantity] | None = None, limits: dict[str, Quantity] | None = None) -> Container:
    return Container(name="a", resources=ResourceRequirements(requests=requests or {}, limits=limits or {}))


FULL = amounts(cpu="1", memory="1Gi")


@pytest.mark.parametrize(
    ("containers", "inits", "expected"),
    [
        ([container()], [], "BestEffort"),
        ([container(amounts(cpu="0"))], [], "BestEffort"),
        ([Container(resources=ResourceRequirements(requests={"a.b/c": Quantity("1")}))], [], "BestEffort"),
        ([container(FULL, FULL)], [], "Guaranteed"),
        ([container(amounts(cpu="1000m", memory="1024Mi"), FULL)], [], "Guaranteed"),
        ([container(amounts(cpu="1"))], [], "Burstable"),
        ([container(FULL)], [], "Burstable"),
        ([container(amounts(cpu="500m", memory="1Gi"), FULL)], [], "Burstable"),
        ([container(FULL, FULL), container()], [], "Burstable"),
        ([container(FULL, FULL)], [container()], "Burstable"),
        ([container()], [container(amounts(cpu="1"))], "Burstable"),
        ([container(FULL, FULL)], [container(FULL, FULL)], "Guaranteed"),
    ],
)
def test_the_class_follows_from_requests_and_limits(
    containers: list[Container], inits: list[Container], expected: str
) -> None:
    assert qos.class_of(Pod(spec=PodSpec(containers=containers, initContainers=inits))) == expected


def test_resources_of_the_pod_as_a_whole_decide_alone() -> None:
    whole = ResourceRequirements(requests=FULL, limits=FULL)
    assert qos.class_of(Pod(spec=PodSpec(containers=[container()], resources=whole))) == "Guaranteed"
    part = ResourceRequirements(requests=amounts(cpu="1"))
    assert qos.class_of(Pod(spec=PodSpec(containers=[container(FULL, FULL)], resources=part))) == "Burstable"
