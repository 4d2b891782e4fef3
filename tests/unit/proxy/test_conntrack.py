"""Which UDP flows are stale."""

from kybern.proxy.conntrack import Flow, find_changed, find_stale
from kybern.proxy.endpoints import Target
from kybern.proxy.ruleset import NOTHING, Frontend, ServicePlan

CLIENT = Target("10.244.0.50", 40000)
VIP = Target("10.96.0.10", 53)
OLD, NEW = Target("10.244.0.2", 53), Target("10.244.0.3", 53)
DNS = Frontend("10.96.0.10", 53)
NODE = frozenset({"192.0.2.1"})


def test_flows_to_endpoints_that_left_are_stale_and_others_stay() -> None:
    flows = [Flow(CLIENT, VIP, OLD), Flow(CLIENT, VIP, NEW), Flow(CLIENT, Target("10.96.0.11", 53), OLD)]
    assert find_stale(flows, {DNS: frozenset({NEW})}, NODE) == [flows[0]]


def test_flows_that_were_never_translated_are_stale() -> None:
    flow = Flow(CLIENT, VIP, VIP)
    assert find_stale([flow], {DNS: frozenset({NEW})}, NODE) == [flow]


def test_a_node_port_is_ours_only_on_this_node_or_if_translated() -> None:
    node_port = {Frontend("", 30053): frozenset({NEW})}
    here, translated = Target("192.0.2.1", 30053), Target("198.51.100.1", 30053)
    flows = [Flow(CLIENT, here, here), Flow(CLIENT, translated, OLD), Flow(CLIENT, translated, translated)]
    assert find_stale(flows, node_port, NODE) == flows[:2]


def test_only_frontends_that_lost_or_first_got_endpoints_are_looked_at() -> None:
    def plan(*targets: Target) -> ServicePlan:
        return ServicePlan(udp={DNS: frozenset(targets)})

    assert find_changed(plan(OLD), plan(OLD, NEW)) == {}
    assert find_changed(plan(OLD, NEW), plan(NEW)) == {DNS: {NEW}}
    assert find_changed(plan(), plan(NEW)) == {DNS: {NEW}}
    assert find_changed(plan(OLD), NOTHING) == {DNS: frozenset()}
