from __future__ import annotations

from typing import Any

import pytest

from kybern.api import core_v1
from kybern.api.core_v1 import Container, LimitRange, LimitRangeItem, LimitRangeSpec, ResourceRequirements
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.testing.gate import Gate, pod


def amounts(text: str) -> dict[str, Quantity]:
    return {k: Quantity(v) for k, v in (part.split("=") for part in text.split())}


def item(kind: str, **fields: str) -> LimitRangeItem:
    return LimitRangeItem(type=kind, **{name: amounts(text) for name, text in fields.items()})  # type: ignore[arg-type]


def container(name: str, requests: str = "", limits: str = "", **more: Any) -> Container:
    return Container(
        name=name, resources=ResourceRequirements(requests=amounts(requests), limits=amounts(limits)), **more
    )


WHOLE = (
    item(
        "Container",
        min="cpu=100m memory=10Mi",
        max="cpu=1 memory=1Gi",
        default="cpu=500m memory=100Mi",
        defaultRequest="cpu=200m memory=50Mi",
        maxLimitRequestRatio="cpu=4",
    ),
    item("Pod", max="cpu=2 memory=2Gi", min="cpu=50m", maxLimitRequestRatio="memory=2"),
    item("PersistentVolumeClaim", min="storage=1Gi", max="storage=2Gi"),
)


def limited(*items: LimitRangeItem) -> Gate:
    gate = Gate()
    meta = ObjectMeta(name="lr", namespace="ns")
    gate.objects.put(LimitRange(metadata=meta, spec=LimitRangeSpec(limits=list(items or WHOLE))))
    return gate


def test_what_containers_do_not_say_is_filled_in_and_noted() -> None:
    made = limited().create(pod(Container(name="r"), initContainers=[container("i", "cpu=150m")]))
    main, init = made.spec.containers[0].resources, made.spec.initContainers[0].resources
    assert main.requests == amounts("cpu=200m memory=50Mi")
    assert main.limits == amounts("cpu=500m memory=100Mi")
    assert init.requests == amounts("cpu=150m memory=50Mi")
    assert made.metadata.annotations["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container r; cpu, memory limit for container r; "
        "memory request for init container i; cpu, memory limit for init container i"
    )


def test_without_limit_ranges_nothing_is_touched() -> None:
    made = Gate().create(pod())
    assert not made.metadata.annotations
    assert not made.spec.containers[0].resources.requests


# The texts are those of kube-apiserver 1.36 for the same pods.
@pytest.mark.parametrize(
    ("containers", "faults"),
    [
        (
            [container("a", "cpu=50m memory=5Mi", "cpu=2 memory=5Gi")],
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "minimum memory usage per Container is 10Mi, but request is 5Mi",
                "maximum cpu usage per Container is 1, but limit is 2",
                "maximum memory usage per Container is 1Gi, but limit is 5Gi",
                "cpu max limit to request ratio per Container is 4, but provided ratio is 40.000000",
                "maximum memory usage per Pod is 2Gi, but limit is 5Gi",
                "memory max limit to request ratio per Pod is 2, but provided ratio is 1024.000000",
            ],
        ),
        (
            [container("a", "cpu=100m memory=50Mi", "cpu=900m memory=500Mi")],
            [
                "cpu max limit to request ratio per Container is 4, but provided ratio is 9.000000",
                "memory max limit to request ratio per Pod is 2, but provided ratio is 10.000000",
            ],
        ),
        (
            [container(n, limits="cpu=1") for n in "abc"],
            ["maximum cpu usage per Pod is 2, but limit is 3"],
        ),
        ([container("a", limits="cpu=100m")], []),
    ],
)
def test_what_is_out_of_range_is_refused(containers: list[Container], faults: list[str]) -> None:
    gate = limited()
    refused = gate.refusal(gate.create, pod(*containers))
    shown = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
    assert refused == (f'pods "p" is forbidden: {shown}' if faults else "")


def test_sidecars_run_with_the_containers_and_other_init_containers_do_not() -> None:
    gate = limited()
    init = [container("j", limits="cpu=1")]
    main = [container(n, limits="cpu=1") for n in "ab"]
    assert not gate.refusal(gate.create, pod(*main, initContainers=init))
    sidecar = [container("i", limits="cpu=1", restartPolicy="Always")]
    assert gate.refusal(gate.create, pod(*main, initContainers=sidecar + init)) == (
        'pods "p" is forbidden: maximum cpu usage per Pod is 2, but limit is 3'
    )


def test_the_pods_own_resources_count_before_the_containers_sum() -> None:
    gate = limited()
    asked = pod(Container(name="c"), resources=ResourceRequirements(limits=amounts("cpu=4")))
    assert "maximum cpu usage per Pod is 2, but limit is 4" in gate.refusal(gate.create, asked)


def test_a_bound_asks_for_something_to_be_said() -> None:
    gate = limited(item("Pod", max="cpu=1 memory=1Gi", min="memory=1Mi", maxLimitRequestRatio="memory=2"))
    assert gate.refusal(gate.create, pod(container("a", "cpu=1", "cpu=1"))) == (
        'pods "p" is forbidden: [minimum memory usage per Pod is 1Mi.  No request is specified, '
        "maximum memory usage per Pod is 1Gi.  No limit is specified, "
        "memory max limit to request ratio per Pod is 2, but no request is specified or request is 0]"
    )


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ("1Gi", ""),
    ],
)
def test_claims_have_a_range(size: str, why: str) -> None:
    gate = limited()
    resources = core_v1.VolumeResourceRequirements(requests=amounts(f"storage={size}"))
    claim = core_v1.PersistentVolumeClaim(
        metadata=ObjectMeta(name="c", namespace="ns"), spec=core_v1.PersistentVolumeClaimSpec(resources=resources)
    )
    assert gate.refusal(gate.create, claim) == (f'persistentvolumeclaims "c" is forbidden: {why}' if why else "")


def test_an_update_of_a_pod_is_not_judged_again() -> None:
    gate = limited()
    small = pod(container("a", "cpu=1m", "cpu=1m"))
    gate.update(small, small)
