"""The loop: when it writes, what it writes after failures, what it tells conntrack and health checks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.proxy import plan
from kybern.proxy.endpoints import Node, Target
from kybern.proxy.health_check import HealthChecks
from kybern.proxy.metrics import Metrics
from kybern.proxy.nft import table
from kybern.proxy.ruleset import Frontend
from kybern.proxy.sync import ProxySync, Sinks
from kybern.testing.clock import FakeClock
from kybern.testing.fake_nft import FakeNft, Packet
from kybern.testing.services import endpoint, endpoint_slice, port, service

VIEW = plan.View(Node("here", frozenset({"192.0.2.1"})), ("10.244.0.0/16",))
WEB = Packet("10.96.0.5", "tcp", 80)


class FakeConntrack:
    def __init__(self) -> None:
        self.forgotten: list[dict[Frontend, frozenset[Target]]] = []

    async def forget(self, frontends: Mapping[Frontend, frozenset[Target]], node_ips: frozenset[str]) -> int:
        self.forgotten.append(dict(frontends))
        return len(frontends)


class Bench:
    """A proxy on fakes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.nft = FakeNft()
        self.conntrack = FakeConntrack()
        self.services: Informer[Service] = Informer(shapes.of(Service))
        self.slices: Informer[EndpointSlice] = Informer(shapes.of(EndpointSlice))
        self.health_checks = HealthChecks(self.clock)
        self.metrics = Metrics(CollectorRegistry())
        self.sync = ProxySync(
            self.services,
            self.slices,
            VIEW,
            table.Settings(),
            Sinks(self.nft, self.conntrack, self.health_checks),
            self.clock,
            self.metrics,
        )
        self._version = 1

    def put(self, *objects: Any) -> None:
        for obj in objects:
            self._version += 1
            obj.metadata.resourceVersion = str(self._version)
            informer: Informer[Any] = self.services if isinstance(obj, Service) else self.slices
            informer.upsert(obj)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.sync.run())
            self.services.replace(self.services.list(), "1")
            self.slices.replace(self.slices.list(), "1")
            await self.clock.advance(0)
            yield
            task.cancel()


def web(*addresses: str, **spec: Any) -> tuple[Service, EndpointSlice]:
    return (
        service("web", "10.96.0.5", port(80), **spec),
        endpoint_slice("web", [port(8080)], *(endpoint(a, "here") for a in addresses)),
    )


def test_a_change_is_applied_at_once_and_the_next_after_a_pause() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            assert len(bench.nft.scripts) == 1
            await bench.clock.advance(1)
            obj, slices = web("10.244.0.2")
            bench.put(obj)
            await bench.clock.advance(0)
            assert bench.nft.destinations(WEB).verdict == "reject"
            bench.put(slices)
            await bench.clock.advance(0.05)
            assert bench.nft.destinations(WEB).verdict == "reject"
            bench.put(web("10.244.0.2", "10.244.0.3")[1])
            await bench.clock.advance(0.06)
            assert bench.nft.destinations(WEB).targets == {"10.244.0.2:8080", "10.244.0.3:8080"}
            # All; no endpoints; and two endpoints, after the chain that Services with two share.
            assert len(bench.nft.scripts) == 4

    asyncio.run(scenario())


def test_a_change_without_effect_writes_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(*web("10.244.0.2"))
        async with bench.running():
            bench.put(web("10.244.0.2", labels={"a": "b"})[0])
            await bench.clock.advance(1)
            assert len(bench.nft.scripts) == 1

    asyncio.run(scenario())


def test_deleted_services_and_slices_go() -> None:
    async def scenario() -> None:
        bench = Bench()
        obj, slices = web("10.244.0.2")
        bench.put(obj, slices)
        async with bench.running():
            bench.slices.remove(slices)
            await bench.clock.advance(1)
            assert bench.nft.destinations(WEB).verdict == "reject"
            bench.services.remove(obj)
            await bench.clock.advance(1)
            assert bench.nft.destinations(WEB).verdict == ""

    asyncio.run(scenario())


def test_a_slice_that_changes_its_owner_counts_for_both() -> None:
    async def scenario() -> None:
        bench = Bench()
        obj, slices = web("10.244.0.2")
        bench.put(obj, slices, service("api", "10.96.0.6", port(80)))
        async with bench.running():
            bench.put(endpoint_slice("api", [port(8080)], endpoint("10.244.0.2"), suffix="x"))
            moved = endpoint_slice("web", [port(8080)], endpoint("10.244.0.9"))
            moved.metadata.labels["kubernetes.io/service-name"] = "api"
            bench.put(moved)
            await bench.clock.advance(1)
            assert bench.nft.destinations(WEB).verdict == "reject"
            assert bench.nft.destinations(Packet("10.96.0.6", "tcp", 80)).targets == {
                "10.244.0.2:8080",
                "10.244.0.9:8080",
            }

    asyncio.run(scenario())


def test_after_a_refusal_everything_is_written_anew() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            await bench.clock.advance(1)
            bench.nft.fail_next = 3  # the change; the whole table; the table from nothing
            bench.put(*web("10.244.0.2"))
            await bench.clock.advance(0)
            assert bench.sync.is_healthy()
            await bench.clock.advance(1)
            assert not bench.nft.destinations(WEB).targets
            await bench.clock.advance(3)
            assert bench.nft.destinations(WEB).targets == {"10.244.0.2:8080"}
            assert bench.metrics.failures._value.get() == 2

    asyncio.run(scenario())


def test_a_proxy_that_cannot_write_for_long_is_not_healthy() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert not bench.sync.is_healthy()
        async with bench.running():
            assert bench.sync.is_healthy()
            bench.nft.fail_next = 1000
            bench.put(*web("10.244.0.2"))
            await bench.clock.advance(61)
            assert not bench.sync.is_healthy()
            bench.nft.fail_next = 0
            await bench.clock.advance(31)
            assert bench.sync.is_healthy()

    asyncio.run(scenario())


def test_a_table_that_somebody_flushed_comes_back() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.put(*web("10.244.0.2"))
        async with bench.running():
            bench.nft.flush_ruleset()
            await bench.clock.advance(31)
            assert bench.nft.destinations(WEB).targets == {"10.244.0.2:8080"}

    asyncio.run(scenario())


def test_a_table_of_another_kind_is_replaced() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.nft.apply(
            f"add table {table.WHERE}\nadd map {table.WHERE} service-ips {{ type mark : verdict ; }}\n"
        )
        bench.put(*web("10.244.0.2"))
        async with bench.running():
            assert bench.nft.destinations(WEB).targets == {"10.244.0.2:8080"}

    asyncio.run(scenario())


def test_flows_are_forgotten_when_udp_endpoints_go_or_first_come() -> None:
    async def scenario() -> None:
        bench = Bench()
        obj = service("dns", "10.96.0.10", port(53, "UDP"))

        def slices(*addresses: str) -> EndpointSlice:
            return endpoint_slice("dns", [port(53, "UDP")], *(endpoint(a) for a in addresses))

        async with bench.running():
            await bench.clock.advance(1)
            forgotten = bench.conntrack.forgotten
            forgotten.clear()
            frontend = Frontend("10.96.0.10", 53)
            bench.put(obj, slices("10.244.0.2"))
            await bench.clock.advance(1)
            assert forgotten.pop() == {frontend: {Target("10.244.0.2", 53)}}
            bench.put(slices("10.244.0.2", "10.244.0.3"))
            await bench.clock.advance(1)
            assert forgotten == []
            bench.put(slices("10.244.0.3"))
            await bench.clock.advance(1)
            assert forgotten.pop() == {frontend: {Target("10.244.0.3", 53)}}
            bench.services.remove(obj)
            await bench.clock.advance(1)
            assert forgotten.pop() == {frontend: frozenset()}

    asyncio.run(scenario())


def test_a_new_view_of_the_node_plans_everything_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        obj, _ = web()
        hinted = [endpoint(a, hints={"forZones": [{"name": z}]}) for a, z in [("10.244.0.2", "a"), ("10.244.0.3", "b")]]
        bench.put(obj, endpoint_slice("web", [port(8080)], *hinted))
        async with bench.running():
            assert len(bench.nft.destinations(WEB).targets) == 2
            bench.sync.look_from(plan.View(Node("here", frozenset(), "b"), VIEW.cluster_networks))
            await bench.clock.advance(1)
            assert bench.nft.destinations(WEB).targets == {"10.244.0.3:8080"}

    asyncio.run(scenario())
