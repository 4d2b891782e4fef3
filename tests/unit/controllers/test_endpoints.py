"""Endpoints and EndpointSlices: which addresses, in which objects, and how few of them change."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kybern.api.core_v1 import (
    Container,
    ContainerPort,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from kybern.api.discovery_v1 import Endpoint, EndpointSlice
from kybern.api.meta_v1 import ObjectMeta
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.controllers import service_pods
from kybern.controllers.endpointslice import pack, plan
from kybern.testing import control_plane

NAMES = ["endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller"]


def service(selector=None, **spec):
    return Service(
        metadata=ObjectMeta(name="web", namespace="default", labels={"tier": "front"}),
        spec=ServiceSpec(
            **{
                "clusterIP": "10.96.0.9",
                "selector": {"app": "web"} if selector is None else selector,
                "ports": [ServicePort(name="http", port=80, targetPort="web", protocol="TCP")],
                "ipFamilies": ["IPv4"],
            }
            | spec
        ),
    )


def pod(name, ip, ready=True, port=8080, deleted=False, phase="Running", **spec):
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="default",
            uid=f"uid-{name}",
            labels={"app": "web"},
            deletionTimestamp="2026-01-01T00:00:00Z" if deleted else None,
            finalizers=["test/keep"] if deleted else [],
        ),
        spec=PodSpec(
            containers=[Container(name="c", ports=[ContainerPort(name="web", containerPort=port)])],
            nodeName="n1",
            **spec,
        ),
        status=PodStatus(
            phase=phase,
            podIP=ip or None,
            podIPs=[PodIP(ip=ip)] if ip else [],
            conditions=[PodCondition(type="Ready", status="True" if ready else "False")],
        ),
    )


def run(scenario):
    return control_plane.run(NAMES, scenario, node=False)


def slices(plane):
    return sorted(plane.api.list(EndpointSlice), key=lambda s: s.metadata.name)


def seen(found):
    """address -> (ready, serving, terminating)"""
    return {
        e.addresses[0]: (e.conditions.ready, e.conditions.serving, e.conditions.terminating)
        for s in found
        for e in s.endpoints
    }


def test_pods_are_published_as_they_are():
    async def scenario(plane):
        await plane.client.create(service())
        plane.api.put(pod("ready", "10.0.0.1"))
        plane.api.put(pod("unready", "10.0.0.2", ready=False))
        plane.api.put(pod("leaving", "10.0.0.3", deleted=True))
        plane.api.put(pod("ended", "10.0.0.4", phase="Succeeded"))
        plane.api.put(pod("no-address", ""))
        await plane.clock.sleep(2)
        return slices(plane), plane.api.get(Endpoints, "default", "web")

    found, endpoints = run(scenario)
    assert seen(found) == {
        "10.0.0.1": (True, True, False),
        "10.0.0.2": (False, False, False),
        "10.0.0.3": (False, True, True),
    }
    (made,) = found
    assert made.metadata.labels == {"tier": "front", plan.SERVICE: "web", plan.MANAGED_BY: plan.MANAGER}
    assert [(p.name, p.port, p.protocol) for p in made.ports] == [("http", 8080, "TCP")]
    assert made.metadata.ownerReferences[0].kind == "Service"
    (subset,) = endpoints.subsets
    assert [a.ip for a in subset.addresses] == ["10.0.0.1"]
    assert [a.ip for a in subset.notReadyAddresses] == ["10.0.0.2"]
    assert subset.addresses[0].targetRef.name == "ready" and subset.addresses[0].nodeName == "n1"


def test_a_service_without_pods_keeps_one_empty_slice():
    async def scenario(plane):
        await plane.client.create(service())
        await plane.clock.sleep(1)
        plane.api.put(pod("a", "10.0.0.1"))
        await plane.clock.sleep(1)
        plane.api.remove(Pod, "default", "a")
        await plane.clock.sleep(1)
        return [len(s.endpoints) for s in slices(plane)], plane.api.get(Endpoints, "default", "web").subsets

    assert run(scenario) == ([0], [])


def test_a_named_port_that_differs_between_pods_makes_slices_of_each():
    async def scenario(plane):
        await plane.client.create(service())
        plane.api.put(pod("old", "10.0.0.1", port=8080))
        plane.api.put(pod("new", "10.0.0.2", port=9090))
        await plane.clock.sleep(1)
        return {s.ports[0].port: [e.addresses[0] for e in s.endpoints] for s in slices(plane)}

    assert run(scenario) == {8080: ["10.0.0.1"], 9090: ["10.0.0.2"]}


def test_not_ready_addresses_are_published_if_asked_for():
    async def scenario(plane):
        await plane.client.create(service(publishNotReadyAddresses=True, clusterIP="None"))
        plane.api.put(pod("a", "10.0.0.1", ready=False, hostname="a", subdomain="web"))
        await plane.clock.sleep(1)
        made = slices(plane)[0]
        return (
            made.endpoints[0].conditions.ready,
            made.endpoints[0].hostname,
            "service.kubernetes.io/headless" in made.metadata.labels,
        )

    assert run(scenario) == (True, "a", True)


def test_only_the_families_of_the_service_count():
    async def scenario(plane):
        await plane.client.create(service(ipFamilies=["IPv6", "IPv4"]))
        both = pod("a", "10.0.0.1")
        both.status.podIPs.append(PodIP(ip="fd00::1"))
        plane.api.put(both)
        await plane.clock.sleep(1)
        return {s.addressType: s.endpoints[0].addresses for s in slices(plane)}, plane.api.get(
            Endpoints, "default", "web"
        ).subsets

    families, subsets = run(scenario)
    assert families == {"IPv4": ["10.0.0.1"], "IPv6": ["fd00::1"]}
    assert subsets[0].addresses[0].ip == "fd00::1", "Endpoints hold the first family only"


def test_a_service_that_becomes_external_or_goes_leaves_nothing_stale():
    async def scenario(plane):
        await plane.client.create(service())
        plane.api.put(pod("a", "10.0.0.1"))
        await plane.clock.sleep(1)

        def external(found):
            found.spec.type = "ExternalName"

        plane.api.edit(Service, "default", "web", external)
        await plane.clock.sleep(1)
        amid = slices(plane)
        await plane.client.delete(Service, "default", "web")
        await plane.clock.sleep(1)
        return amid, plane.api.get(Endpoints, "default", "web")

    assert run(scenario) == ([], None)


def test_hand_written_endpoints_are_mirrored_and_follow():
    def address(ip):
        return EndpointAddress(ip=ip)

    async def scenario(plane):
        await plane.client.create(service(selector={}))
        written = Endpoints(
            metadata=ObjectMeta(name="web", namespace="default", annotations={"note": "x"}),
            subsets=[
                EndpointSubset(
                    addresses=[address("1.2.3.4"), address("fd00::9")],
                    notReadyAddresses=[address("1.2.3.5")],
                    ports=[EndpointPort(name="p", port=81)],
                )
            ],
        )
        made = await plane.client.create(written)
        await plane.clock.sleep(1)
        first = {s.addressType: [(e.addresses[0], e.conditions.ready) for e in s.endpoints] for s in slices(plane)}
        labels = slices(plane)[0].metadata.labels
        made.subsets[0].addresses = [address("9.9.9.9")]
        made.subsets[0].notReadyAddresses = []
        await plane.client.update(made)
        await plane.clock.sleep(1)
        second = [e.addresses[0] for s in slices(plane) for e in s.endpoints]
        await plane.client.delete(Endpoints, "default", "web")
        await plane.clock.sleep(1)
        return first, labels, second, slices(plane)

    first, labels, second, after = run(scenario)
    assert first == {"IPv4": [("1.2.3.4", True), ("1.2.3.5", False)], "IPv6": [("fd00::9", True)]}
    assert labels[plan.MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
    assert second == ["9.9.9.9"] and after == []


def test_endpoints_with_a_selector_or_a_refusal_are_not_mirrored():
    async def scenario(plane):
        await plane.client.create(service(selector={}))
        skipped = Endpoints(
            metadata=ObjectMeta(
                name="web", namespace="default", labels={"endpointslice.kubernetes.io/skip-mirror": "true"}
            ),
            subsets=[EndpointSubset(addresses=[EndpointAddress(ip="1.1.1.1")], ports=[EndpointPort(port=1)])],
        )
        await plane.client.create(skipped)
        await plane.clock.sleep(2)
        return slices(plane)

    assert run(scenario) == []


# packing

LIMIT = 4
PORTS = (("http", 80, "TCP", ""),)


def endpoint(number):
    return Endpoint(addresses=[f"10.0.{number // 250}.{number % 250}"])


def group_of(numbers):
    group = pack.Group("IPv4", PORTS)
    for number in numbers:
        made = endpoint(number)
        group.endpoints[pack.identity_of(made)] = made
    return group


def new_slice(kind, ports):
    return EndpointSlice(addressType=kind, ports=pack.render_ports(ports))


def apply(existing, changes, names):
    result = {s.metadata.name: s for s in existing}
    for gone in changes.delete:
        del result[gone.metadata.name]
    for changed in changes.update:
        result[changed.metadata.name] = changed
    for made in changes.create:
        made.metadata.name = next(names)
        result[made.metadata.name] = made
    return list(result.values())


@given(st.lists(st.sets(st.integers(0, 40), max_size=25), min_size=1, max_size=6))
def test_slices_always_hold_exactly_what_is_wanted_and_never_too_much(rounds):
    names = (f"s{i}" for i in range(10**6))
    existing: list[EndpointSlice] = []
    before: set[int] | None = None
    for wanted in rounds:
        changes = pack.pack([group_of(sorted(wanted))], existing, new_slice, lambda s: None, LIMIT, ("IPv4",))
        existing = apply(existing, changes, names)
        held = [e.addresses[0] for s in existing for e in s.endpoints]
        assert sorted(held) == sorted(endpoint(n).addresses[0] for n in wanted)
        assert all(len(s.endpoints) <= LIMIT for s in existing)
        assert len(existing) >= 1 and (wanted or len(existing) == 1)
        if wanted == before:
            assert changes == pack.Changes(), "what is right is not written again"
        before = wanted


@given(st.integers(0, 60))
def test_fresh_endpoints_fill_as_few_slices_as_possible(count):
    changes = pack.pack([group_of(range(count))], [], new_slice, lambda s: None, LIMIT)
    assert len(changes.create) == math.ceil(count / LIMIT)


def test_one_change_writes_one_slice():
    names = (f"s{i}" for i in range(1000))
    existing = apply([], pack.pack([group_of(range(40))], [], new_slice, lambda s: None, LIMIT), names)
    changes = pack.pack([group_of([*range(1, 40), 99])], existing, new_slice, lambda s: None, LIMIT)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)


# who selects whom


@given(
    st.lists(st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), min_size=1), max_size=5),
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")), max_size=8),
)
def test_pods_and_services_find_each_other_as_by_looking_at_all(selectors, pods):
    services, informer = Informer(shapes.of(Service)), Informer(shapes.of(Pod))
    services.add_index(service_pods.SELECTOR, service_pods._looked_up_by)
    service_pods.index_pods(informer)
    for number, selector in enumerate(selectors):
        meta = ObjectMeta(name=f"s{number}", namespace="ns", resourceVersion="1", uid=f"s{number}")
        services.upsert(Service(metadata=meta, spec=ServiceSpec(selector=selector)))
    for number, found in enumerate(pods):
        meta = ObjectMeta(name=f"p{number}", namespace="ns", resourceVersion="1", uid=f"p{number}", labels=found)
        informer.upsert(Pod(metadata=meta, spec=PodSpec(containers=[])))
        other = ObjectMeta(name=f"p{number}", namespace="other", resourceVersion="1", uid=f"o{number}", labels=found)
        informer.upsert(Pod(metadata=other, spec=PodSpec(containers=[])))
    for one in services.list():
        every = service_pods.selected(one, informer.list("ns"))
        assert sorted(p.metadata.name for p in service_pods.backing(one, informer)) == sorted(
            p.metadata.name for p in every
        )
        for pod_ in informer.list("ns"):
            assert (one in service_pods.selecting(pod_, services)) == (pod_ in every)


def test_a_node_that_changes_its_zone_wakes_the_services_of_its_pods_alone():
    async def scenario(plane):
        for number in range(2):
            plane.api.put(Node(metadata=ObjectMeta(name=f"n{number}", labels={plan.ZONE: "a"})))
        plane.api.put(service())
        plane.api.put(pod("p", "10.0.0.1"))
        await plane.until(lambda: plane.api.list(EndpointSlice))
        await plane.clock.sleep(5)
        plane.api.edit(Node, "", "n1", lambda n: n.metadata.labels.update({plan.ZONE: "b"}))
        await plane.until(lambda: plane.api.list(EndpointSlice)[0].endpoints[0].zone == "b")

    control_plane.run(NAMES, scenario, node=False)
