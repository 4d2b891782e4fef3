"""What is planned, asked the way a packet asks: where may it go?"""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.proxy import plan
from kybern.proxy.endpoints import Node, Target
from kybern.proxy.nft import table, transaction
from kybern.proxy.ruleset import NOTHING, Frontend, HealthCheck, Ruleset
from kybern.testing.fake_nft import FakeNft, Fate, Packet
from kybern.testing.services import endpoint, endpoint_slice, port, service

PODS = ("10.244.0.0/16",)
VIEW = plan.View(Node("here", frozenset({"192.0.2.1"})), PODS)
POD = "10.244.0.77"
OUTSIDE = "198.51.100.7"


def kernel(*objects: tuple[Service, list[EndpointSlice]], view: plan.View = VIEW, **settings: Any) -> FakeNft:
    ruleset, nft = Ruleset(), FakeNft()
    ruleset.replace([(plan.service_name(s), plan.plan_service(s, slices, view)) for s, slices in objects])
    writer = transaction.Writer(table.Settings(cluster_networks=view.cluster_networks, **settings))
    asyncio.run(nft.apply(writer.render_whole(ruleset, None)))
    return nft


def ask(nft: FakeNft, daddr: str, dport: int, protocol: str = "tcp", saddr: str = POD, **other: Any) -> Fate:
    return nft.destinations(Packet(daddr, protocol, dport, saddr, **other))


def to(*targets: str, masqueraded: bool = False) -> Fate:
    return Fate(frozenset(targets), masqueraded)


REJECTED, DROPPED = Fate(verdict="reject"), Fate(verdict="drop")
HTTP = [port(8080, name="http")]
WEB = endpoint_slice("web", HTTP, endpoint("10.244.0.2", "here"), endpoint("10.244.1.2"))
FAR = endpoint_slice("web", HTTP, endpoint("10.244.1.2"))


def web(**spec: Any) -> Service:
    return service("web", "10.96.0.5", port(80, name="http", nodePort=spec.pop("nodePort", None)), **spec)


def test_a_cluster_ip_goes_to_all_endpoints() -> None:
    nft = kernel((web(), [WEB]))
    assert ask(nft, "10.96.0.5", 80) == to("10.244.0.2:8080", "10.244.1.2:8080")


def test_sources_outside_the_pod_networks_are_masqueraded() -> None:
    nft = kernel((web(), [WEB]))
    assert ask(nft, "10.96.0.5", 80, saddr=OUTSIDE).is_masqueraded
    assert not ask(kernel((web(), [WEB]), view=plan.View(VIEW.node)), "10.96.0.5", 80, saddr=OUTSIDE).is_masqueraded
    assert ask(kernel((web(), [WEB]), masquerade_all=True), "10.96.0.5", 80).is_masqueraded


def test_no_endpoints_or_a_port_the_service_has_not_is_rejected() -> None:
    nft = kernel((web(), []))
    assert ask(nft, "10.96.0.5", 80) == REJECTED
    assert ask(nft, "10.96.0.5", 81) == REJECTED
    assert ask(nft, "10.96.0.6", 80) == Fate()


def test_addresses_that_no_service_has_go_nowhere() -> None:
    nft, ruleset = FakeNft(), Ruleset()
    cidrs = ["10.96.0.0/12", "10.100.0.0/16", "fd00::/108", "junk", "10.0.0.0/11", "10.244.5.0/24", "192.0.2.0/24"]
    networks = plan.plan_service_networks(cidrs, VIEW)
    assert [slot.key for slot in networks.elements] == [("10.0.0.0/11",), ("10.96.0.0/12",)]
    ruleset.replace(
        [(plan.SERVICE_NETWORKS, networks), (plan.service_name(web()), plan.plan_service(web(), [WEB], VIEW))]
    )
    asyncio.run(nft.apply(transaction.Writer(table.Settings()).render_whole(ruleset, None)))
    assert ask(nft, "10.96.0.5", 80).targets
    assert ask(nft, "10.96.0.5", 81) == REJECTED
    assert ask(nft, "10.101.2.3", 80) == DROPPED
    assert ask(nft, "10.244.0.2", 80) == Fate()


def test_internal_policy_local_stays_on_the_node_or_drops() -> None:
    local = web(internalTrafficPolicy="Local")
    assert ask(kernel((local, [WEB])), "10.96.0.5", 80) == to("10.244.0.2:8080")
    assert ask(kernel((local, [FAR])), "10.96.0.5", 80) == DROPPED
    assert ask(kernel((local, [])), "10.96.0.5", 80) == REJECTED


def test_a_node_port_is_served_on_addresses_of_the_node_and_masqueraded() -> None:
    nft = kernel((web(type="NodePort", nodePort=30080), [WEB]))
    both = to("10.244.0.2:8080", "10.244.1.2:8080", masqueraded=True)
    assert ask(nft, "192.0.2.1", 30080, saddr=OUTSIDE, is_to_node=True) == both
    assert ask(nft, "192.0.2.1", 30080, is_to_node=True) == both
    assert ask(nft, "127.0.0.1", 30080, is_to_node=True, is_from_node=True) == Fate()
    assert ask(nft, "192.0.2.250", 30080) == Fate()


def test_node_ports_can_be_kept_to_some_networks() -> None:
    nft = kernel((web(type="NodePort", nodePort=30080), [WEB]), node_port_networks=("192.0.2.0/24",))
    assert ask(nft, "192.0.2.1", 30080, is_to_node=True).targets
    assert ask(nft, "203.0.113.1", 30080, is_to_node=True) == Fate()


def test_a_cluster_ip_service_has_no_node_port_though_one_is_written_down() -> None:
    nft = kernel((web(nodePort=30080), [WEB]))
    assert ask(nft, "192.0.2.1", 30080, is_to_node=True) == Fate()


def test_external_policy_local_keeps_the_clients_address() -> None:
    nft = kernel((web(type="NodePort", nodePort=30080, externalTrafficPolicy="Local"), [WEB]))
    assert ask(nft, "192.0.2.1", 30080, saddr=OUTSIDE, is_to_node=True) == to("10.244.0.2:8080")
    # Pods and the node itself are inside: all endpoints are theirs.
    both = to("10.244.0.2:8080", "10.244.1.2:8080")
    assert ask(nft, "192.0.2.1", 30080, is_to_node=True) == both
    node = ask(nft, "192.0.2.1", 30080, saddr="192.0.2.1", is_to_node=True, is_from_node=True)
    assert node == Fate(both.targets, is_masqueraded=True)


def test_external_policy_local_without_local_endpoints_drops_what_comes_from_outside() -> None:
    nft = kernel((web(type="NodePort", nodePort=30080, externalTrafficPolicy="Local"), [FAR]))
    assert ask(nft, "192.0.2.1", 30080, saddr=OUTSIDE, is_to_node=True) == DROPPED
    assert ask(nft, "192.0.2.1", 30080, is_to_node=True) == to("10.244.1.2:8080")
    none = kernel((web(type="NodePort", nodePort=30080, externalTrafficPolicy="Local"), []))
    assert ask(none, "192.0.2.1", 30080, saddr=OUTSIDE, is_to_node=True) == REJECTED


def test_external_and_load_balancer_addresses_are_served() -> None:
    nft = kernel((web(type="LoadBalancer", externalIPs=["203.0.113.5"], ingress=["203.0.113.6"]), [WEB]))
    both = to("10.244.0.2:8080", "10.244.1.2:8080", masqueraded=True)
    assert ask(nft, "203.0.113.5", 80, saddr=OUTSIDE) == both
    assert ask(nft, "203.0.113.6", 80, saddr=OUTSIDE) == both
    empty = kernel((web(type="LoadBalancer", externalIPs=["203.0.113.5"], ingress=["203.0.113.6"]), []))
    assert ask(empty, "203.0.113.5", 80, saddr=OUTSIDE) == REJECTED
    assert ask(empty, "203.0.113.6", 80, saddr=OUTSIDE) == REJECTED


def test_a_load_balancer_that_is_a_proxy_itself_is_not_bypassed() -> None:
    lb = web(type="LoadBalancer", ingress=["203.0.113.6"])
    lb.status.loadBalancer.ingress[0].ipMode = "Proxy"
    assert ask(kernel((lb, [WEB])), "203.0.113.6", 80) == Fate()


def test_source_ranges_fence_the_load_balancer_and_nothing_else() -> None:
    ranges = ["198.51.100.0/24", "198.51.100.128/25", "fd00::/8"]
    lb = web(type="LoadBalancer", ingress=["203.0.113.6"], loadBalancerSourceRanges=ranges)
    nft = kernel((lb, [WEB]))
    assert ask(nft, "203.0.113.6", 80, saddr=OUTSIDE).targets
    assert ask(nft, "203.0.113.6", 80, saddr="192.0.2.200") == DROPPED
    assert ask(nft, "203.0.113.6", 80, saddr="203.0.113.6").targets
    assert ask(nft, "10.96.0.5", 80, saddr="192.0.2.200").targets
    lb.spec.loadBalancerSourceRanges = ["0.0.0.0/0"]
    assert ask(kernel((lb, [WEB])), "203.0.113.6", 80, saddr="192.0.2.200").targets
    lb.spec.loadBalancerSourceRanges = ["fd00::/8"]
    assert ask(kernel((lb, [WEB])), "203.0.113.6", 80, saddr=OUTSIDE) == DROPPED


def test_session_affinity_remembers_the_client_at_each_endpoint() -> None:
    nft = kernel((web(sessionAffinity="ClientIP"), [WEB]))
    assert ask(nft, "10.96.0.5", 80) == to("10.244.0.2:8080", "10.244.1.2:8080")
    memories = [n for n in nft.tables["ip kybern-proxy"].sets if n.startswith("aff/")]
    assert len(memories) == 2
    nft.tables["ip kybern-proxy"].sets[memories[1]].elements.clear()
    assert len(ask(nft, "10.96.0.5", 80).targets) == 1
    assert "timeout 10800s" in nft.scripts[0]
    brief = web(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}})
    assert "timeout 5s" in kernel((brief, [WEB])).scripts[0]


def test_local_endpoints_may_reach_themselves_unless_they_are_the_node() -> None:
    slices = endpoint_slice("web", HTTP, endpoint("10.244.0.2", "here"), endpoint("192.0.2.1", "here"))
    planned = plan.plan_service(web(), [slices, FAR], VIEW)
    assert [s.key for s in planned.elements if s.container == "hairpin-connections"] == [("10.244.0.2", "10.244.0.2")]


def test_services_without_a_virtual_address_are_left_alone() -> None:
    alone = [
        web(type="ExternalName", externalName="example.com"),
        service("web", "None", port(80)),
        service("web", "", port(80)),
        web(labels={plan.PROXY_NAME_LABEL: "other"}),
        web(labels={plan.HEADLESS_LABEL: ""}),
    ]
    assert all(plan.plan_service(s, [WEB], VIEW) == NOTHING for s in alone)


def test_one_port_number_may_have_two_protocols() -> None:
    dns = service("dns", "10.96.0.10", port(53, "UDP", "dns"), port(53, "TCP", "dns-tcp"))
    ports = [port(10053, "UDP", "dns"), port(10054, "TCP", "dns-tcp")]
    nft = kernel((dns, [endpoint_slice("dns", ports, endpoint("10.244.0.9"))]))
    assert ask(nft, "10.96.0.10", 53, "udp") == to("10.244.0.9:10053")
    assert ask(nft, "10.96.0.10", 53, "tcp") == to("10.244.0.9:10054")


def test_udp_frontends_say_what_flows_may_stay() -> None:
    dns = service(
        "dns", "10.96.0.10", port(53, "UDP", "dns", nodePort=30053), type="NodePort", externalIPs=["203.0.113.5"]
    )
    planned = plan.plan_service(dns, [endpoint_slice("dns", [port(53, "UDP", "dns")], endpoint("10.244.0.9"))], VIEW)
    allowed = frozenset({Target("10.244.0.9", 53)})
    assert planned.udp == {Frontend(ip, n): allowed for ip, n in [("10.96.0.10", 53), ("203.0.113.5", 53), ("", 30053)]}
    assert plan.plan_service(web(), [WEB], VIEW).udp == {}


def test_the_health_check_counts_ready_endpoints_of_this_node() -> None:
    lb = web(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    draining = endpoint("10.244.0.3", "here", ready=False, serving=True, terminating=True)
    slices = endpoint_slice("web", HTTP, endpoint("10.244.0.2", "here"), draining, endpoint("10.244.1.2"))
    assert plan.plan_service(lb, [slices], VIEW).health_check == HealthCheck(31000, 1)
    lb.spec.externalTrafficPolicy = "Cluster"
    assert plan.plan_service(lb, [slices], VIEW).health_check is None


def test_names_that_nft_cannot_take_are_hashed() -> None:
    assert plan.chain_name("svc", "default", "web", "tcp", "80") == "svc/default/web/tcp/80"
    odd = plan.chain_name("svc", "default", 'x"; flush ruleset', "tcp", "80")
    assert re.fullmatch(r"svc/[0-9a-f]{32}", odd)
    assert len(plan.chain_name("svc", "n" * 300)) < 64
    assert odd != plan.chain_name("svc", "default", 'y"; flush ruleset', "tcp", "80")


texts = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["10.0.0.1", "None", "10.0.0.0/33", "::1", "Local"]))
port_numbers = st.one_of(st.none(), st.integers(-5, 70000))


@given(
    ip=texts,
    more=st.lists(texts.filter(bool), max_size=3),
    kind=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", None, "X"]),
    policy=st.sampled_from(["Local", "Cluster", None]),
    affinity=st.sampled_from(["ClientIP", "None", None]),
    numbers=st.lists(st.tuples(port_numbers, port_numbers, st.sampled_from(["TCP", "UDP", "SCTP", None, "?"]))),
    addresses=st.lists(texts.filter(bool), max_size=4),
    name=st.text(max_size=20),
)
@pytest.mark.thorough
def test_whatever_the_objects_hold_the_kernel_takes_the_plan(
    ip: Any, more: Any, kind: Any, policy: Any, affinity: Any, numbers: Any, addresses: Any, name: str
) -> None:
    ports = [{"port": a or 0, "nodePort": b, "protocol": c, "name": str(i)} for i, (a, b, c) in enumerate(numbers)]
    odd = service(
        name or "x",
        ip,
        *ports,
        type=kind,
        clusterIPs=more,
        externalIPs=more,
        ingress=more,
        externalTrafficPolicy=policy,
        internalTrafficPolicy=policy,
        sessionAffinity=affinity,
        loadBalancerSourceRanges=more,
        healthCheckNodePort=numbers[0][1] if numbers else None,
    )
    targets = [{"port": b, "protocol": c, "name": str(i)} for i, (_, b, c) in enumerate(numbers)]
    slices = endpoint_slice(name or "x", targets, *(endpoint(a, "here") for a in addresses))
    kernel((odd, [slices]))
