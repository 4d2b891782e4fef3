"""Names to addresses, and what may not be reached."""

from __future__ import annotations

import random

import pytest

from kybern.api.core_v1 import (
    Container,
    ContainerPort,
    DaemonEndpoint,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    NodeAddress,
    NodeDaemonEndpoints,
    NodeStatus,
    ObjectReference,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.proxy import routes, targets
from kybern.apiserver.proxy.targets import ProxyName, Target
from kybern.machinery.status import ApiError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ProxyName("", "web", "")),
        ("web:80", ProxyName("", "web", "80")),
        ("https:web:", ProxyName("https", "web", "")),
        ("http:web:main", ProxyName("http", "web", "main")),
        (":web:", ProxyName("", "web", "")),
    ],
)
def test_names_have_an_optional_scheme_and_port(text: str, expected: ProxyName) -> None:
    assert targets.parse_name(text, "service") == expected


@pytest.mark.parametrize("text", ["", ":80", "ftp:web:80", "a:b:c:d", "http::80"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="invalid service request"):
        targets.parse_name(text, "service")


def pod(ip: str | None = "10.1.2.3", *ports: int) -> Pod:
    container = Container(name="c", ports=[ContainerPort(containerPort=p) for p in ports])
    return Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(containers=[container]), status=PodStatus(podIP=ip))


def test_a_pods_port_is_the_one_asked_for_the_first_declared_or_the_schemes() -> None:
    assert targets.pod_target(pod("10.1.2.3", 8080), ProxyName("", "p", "81")) == Target("http", "10.1.2.3", 81)
    assert targets.pod_target(pod("10.1.2.3", 8080, 1), ProxyName("", "p", "")) == Target("http", "10.1.2.3", 8080)
    assert targets.pod_target(pod(), ProxyName("https", "p", "")) == Target("https", "10.1.2.3", 443)
    assert targets.pod_target(pod("fd00::1"), ProxyName("", "p", "")).authority == "[fd00::1]:80"


@pytest.mark.parametrize(
    "ip",
    [
        None,
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "localhost",
    ],
)
def test_addresses_of_this_machine_or_link_are_not_reached(ip: str | None) -> None:
    with pytest.raises(ApiError, match="address not allowed"):
        targets.pod_target(pod(ip), ProxyName("", "p", "80"))


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "٨٠", "8 0"])
def test_ports_of_pods_are_numbers(port: str) -> None:
    with pytest.raises(ApiError, match="invalid port"):
        targets.pod_target(pod(), ProxyName("", "p", port))


def endpoints(*addresses: str, port: str | None = "main", namespace: str = "ns") -> Endpoints:
    """Of pods that are called like their addresses."""
    found = [
        EndpointAddress(ip=a, targetRef=ObjectReference(kind="Pod", name=a, namespace=namespace)) for a in addresses
    ]
    subsets = [EndpointSubset(addresses=found, ports=[EndpointPort(name=port, port=8080)])] if addresses else []
    return Endpoints(metadata=ObjectMeta(name="web", namespace="ns"), subsets=subsets)


def pod_of(name: str) -> Pod | None:
    return Pod(metadata=ObjectMeta(name=name), status=PodStatus(podIPs=[PodIP(ip=name)]))


SERVICE = Service(
    metadata=ObjectMeta(name="web"),
    spec=ServiceSpec(ports=[ServicePort(name="main", port=80), ServicePort(name="other", port=81)]),
)


def choose(name: str, known: Endpoints | None, service: Service | None = SERVICE) -> Target:
    asked = targets.parse_name(name, "service")
    return targets.service_target(service, known, asked, pod_of, random.Random(1))


def test_a_services_port_is_found_by_name_and_number() -> None:
    for name in ("web:main", "web:80"):
        assert choose(name, endpoints("10.0.0.1")) == Target("http", "10.0.0.1", 8080)


def test_a_services_nameless_port_needs_no_mention() -> None:
    single = Service(metadata=ObjectMeta(name="web"), spec=ServiceSpec(ports=[ServicePort(port=80)]))
    assert choose("web", endpoints("10.0.0.1", port=None), single).port == 8080
    with pytest.raises(ApiError, match='no endpoints available for service "web"'):
        choose("web", endpoints("10.0.0.1"))


@pytest.mark.parametrize(
    ("name", "known", "service", "code", "said"),
    [
        ("web:82", endpoints("10.0.0.1"), SERVICE, 503, 'no service port 82 found for service "web"'),
        ("web:80", endpoints("10.0.0.1"), None, 404, 'services "web" not found'),
        ("web:main", None, SERVICE, 404, 'services "web" not found'),
        ("web:main", endpoints(), SERVICE, 503, 'no endpoints available for service "web"'),
        ("web:other", endpoints("10.0.0.1"), SERVICE, 503, 'no endpoints available for service "web:other"'),
    ],
)
def test_what_cannot_be_reached_is_told(
    name: str, known: Endpoints | None, service: Service | None, code: int, said: str
) -> None:
    with pytest.raises(ApiError) as caught:
        choose(name, known, service)
    assert (caught.value.code, str(caught.value)) == (code, said)


def test_only_addresses_of_pods_of_the_namespace_are_reached() -> None:
    nobody = endpoints("10.0.0.1")
    nobody.subsets[0].addresses[0].targetRef = None
    elsewhere = endpoints("10.0.0.1", namespace="other")
    lying = endpoints("10.0.0.1")
    lying.subsets[0].addresses[0].ip = "10.0.0.2"
    for known in (nobody, elsewhere, lying):
        with pytest.raises(ApiError, match="no endpoints available"):
            choose("web:main", known)


def test_all_endpoints_get_their_share() -> None:
    rng = random.Random(7)
    asked = targets.parse_name("web:80", "service")
    known = endpoints("10.0.0.1", "10.0.0.2")
    seen = {targets.service_target(SERVICE, known, asked, pod_of, rng).host for _ in range(50)}
    assert seen == {"10.0.0.1", "10.0.0.2"}


def node(*addresses: tuple[str, str], port: int = 10250) -> Node:
    return Node(
        metadata=ObjectMeta(name="n"),
        status=NodeStatus(
            addresses=[NodeAddress(type=kind, address=address) for kind, address in addresses],
            daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=port)),
        ),
    )


def test_a_kubelet_is_dialled_at_its_internal_address_and_announced_port() -> None:
    found = targets.kubelet_target(node(("Hostname", "n"), ("InternalIP", "10.0.0.9"), port=12345))
    assert found == Target("https", "10.0.0.9", 12345, is_kubelet=True)
    with pytest.raises(ApiError):
        targets.kubelet_target(node())


def test_only_the_kubelets_own_port_gets_the_servers_certificate() -> None:
    known = node(("InternalIP", "10.0.0.9"))
    assert targets.node_target(known, ProxyName("", "n", "")).is_kubelet
    assert targets.node_target(known, ProxyName("http", "n", "10250")).is_kubelet
    assert targets.node_target(known, ProxyName("", "n", "9100")) == Target("http", "10.0.0.9", 9100)


@pytest.mark.parametrize(
    ("target", "prefix", "tail"),
    [
        ("/api/v1/nodes/n/proxy", "/api/v1/nodes/n/proxy", ""),
        ("/api/v1/nodes/n/proxy?a=b", "/api/v1/nodes/n/proxy", "?a=b"),
        ("/api/v1/nodes/n/proxy/", "/api/v1/nodes/n/proxy", "/"),
        (
            "/api/v1/namespaces/ns/pods/a:80/proxy/x%2Fy//z?q=%20",
            "/api/v1/namespaces/ns/pods/a:80/proxy",
            "/x%2Fy//z?q=%20",
        ),
        ("//api/v1/nodes/proxy/proxy/proxy", "//api/v1/nodes/proxy/proxy", "/proxy"),
    ],
)
def test_targets_are_split_at_the_proxy_segment(target: str, prefix: str, tail: str) -> None:
    assert routes.split_target(target) == (prefix, tail)


def test_a_node_without_an_address_cannot_be_reached() -> None:
    with pytest.raises(ApiError, match=r"no preferred addresses found; known addresses: \[\]") as raised:
        targets.kubelet_target(Node(metadata=ObjectMeta(name="n")))
    assert (raised.value.code, raised.value.reason) == (500, "")
