"""Granting a resize, or saying why not."""

from kybern.api.core_v1 import Container, ContainerResizePolicy, Pod, PodSpec, ResourceRequirements
from kybern.api.scalars import Quantity
from kybern.kubelet.admission import Room
from kybern.kubelet.sync import resize


def pod(cpu):
    return Pod(spec=PodSpec(containers=[Container(name="a", resources=need(cpu))]))


def need(cpu, **limits):
    return ResourceRequirements(requests={"cpu": Quantity(cpu)}, limits={k: Quantity(v) for k, v in limits.items()})


def room(*others):
    return Room(None, {"cpu": "4", "memory": "1Gi"}, others)


def test_what_fits_is_granted():
    decision = resize.decide(pod("2"), {"a": need("1")}, room(pod("2")))
    assert decision.allocation == {"a": need("2")}
    assert decision.pending is None


def test_what_does_not_fit_now_is_deferred_and_what_never_fits_is_infeasible():
    deferred = resize.decide(pod("3"), {"a": need("1")}, room(pod("2")))
    assert deferred.allocation == {"a": need("1")}
    assert deferred.pending.reason == "Deferred"
    infeasible = resize.decide(pod("5"), {"a": need("1")}, room())
    assert infeasible.pending.reason == "Infeasible"
    assert infeasible.pending.message == "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"


def test_a_pod_is_counted_and_made_by_its_grant():
    granted = resize.with_allocation(pod("5"), {"a": need("1")})
    assert granted.spec.containers[0].resources == need("1")
    same = pod("1")
    assert resize.with_allocation(same, {"a": need("1")}) is same


def test_only_named_resources_ask_for_a_restart():
    policy = ContainerResizePolicy(resourceName="memory", restartPolicy="RestartContainer")
    container = Container(name="a", resizePolicy=[policy])
    assert resize.changed(need("1"), need("2", memory="1Gi")) == ["cpu", "memory"]
    assert resize.needs_restart(container, ["memory"])
    assert not resize.needs_restart(container, ["cpu"])
