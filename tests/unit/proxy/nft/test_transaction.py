"""Scripts hold, one after the other, on the fake and on the kernel; and lead where a fresh table would."""

import asyncio
import os
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.proxy import plan
from kybern.proxy.endpoints import Node
from kybern.proxy.nft import run, table, transaction
from kybern.proxy.nft.run import Nft, NftCommand, NftRefused
from kybern.proxy.ruleset import NOTHING, Ruleset, ServiceName
from kybern.testing.fake_nft import FakeNft, Fate, Packet
from kybern.testing.services import endpoint, endpoint_slice, port, service

VIEW = plan.View(Node("here", frozenset({"192.0.2.1"})), ("10.244.0.0/16",))
SETTINGS = table.Settings(cluster_networks=("10.244.0.0/16", "10.245.0.0/16"), node_port_networks=("192.0.2.0/24",))


@pytest.fixture(params=["fake", pytest.param("kernel", marks=[pytest.mark.root, pytest.mark.thorough])])
def nft(request: pytest.FixtureRequest) -> Iterator[Nft]:
    if request.param == "fake":
        yield FakeNft()
        return
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft")
    name = f"kybern-t-{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield NftCommand(("ip", "netns", "exec", name, *run.NFT))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Kernel:
    """A table and the ruleset that was written to it."""

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self.ruleset = Ruleset()
        self.writer = transaction.Writer(SETTINGS)

    async def write_whole(self) -> None:
        await self.nft.apply(self.writer.render_whole(self.ruleset, await self.nft.existing()))

    async def change(self, *plans: tuple[ServiceName, plan.ServicePlan]) -> None:
        for script in self.writer.render_delta(self.ruleset.replace(plans)):
            await self.nft.apply(script)


def planned(obj: Service, *slices: EndpointSlice) -> tuple[ServiceName, plan.ServicePlan]:
    return plan.service_name(obj), plan.plan_service(obj, slices, VIEW)


def own(chains: Iterable[str]) -> frozenset[str]:
    """Without those that Services share: they stay until the whole table is written."""
    return frozenset(c for c in chains if not c.startswith(("balance/", "masq/", "node/")))


def web(count: int, **spec: object) -> tuple[ServiceName, plan.ServicePlan]:
    endpoints = (endpoint(f"10.244.0.{i + 2}", "here") for i in range(count))
    return planned(
        service("web", "10.96.0.5", port(80, nodePort=30080), **spec), endpoint_slice("web", [port(8080)], *endpoints)
    )


def test_endpoints_come_and_go(nft: Nft) -> None:
    async def scenario() -> None:
        kernel = Kernel(nft)
        await kernel.write_whole()
        for count in (0, 1, 2, 3, 5, 4, 9, 1, 0, 2):
            await kernel.change(web(count))
            await kernel.change(web(count, type="NodePort"))
            await kernel.change(web(count, type="NodePort", sessionAffinity="ClientIP"))
            await kernel.change(web(count, type="NodePort", externalTrafficPolicy="Local"))
        await kernel.change((ServiceName("default", "web"), NOTHING))
        left = await nft.existing()
        assert left is not None
        assert own(left.chains) == table.FIXED_CHAINS
        await kernel.write_whole()
        assert (await nft.existing() or transaction.Existing()).chains == table.FIXED_CHAINS
        assert left.sets == table.SETS.keys()

    asyncio.run(scenario())


def test_every_protocol_is_balanced(nft: Nft) -> None:
    async def scenario() -> None:
        kernel = Kernel(nft)
        await kernel.write_whole()
        for protocol in ("TCP", "UDP", "SCTP"):
            obj = service("web", "10.96.0.5", port(80, protocol))
            await kernel.change(
                planned(
                    obj, endpoint_slice("web", [port(80, protocol)], endpoint("10.244.0.2"), endpoint("10.244.0.3"))
                )
            )

    asyncio.run(scenario())


def test_everything_at_once(nft: Nft) -> None:
    async def scenario() -> None:
        kernel = Kernel(nft)
        everything = {
            "type": "LoadBalancer",
            "externalIPs": ["203.0.113.5"],
            "ingress": ["203.0.113.6"],
            "loadBalancerSourceRanges": ["198.51.100.0/24", "198.51.100.7/32"],
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
        }
        ports = [port(53, p, p.lower(), nodePort=30053) for p in ("TCP", "UDP", "SCTP")]
        slices = endpoint_slice("dns", ports, endpoint("10.244.0.9", "here"), endpoint("10.244.1.9"))
        for affinity in ("None", "ClientIP"):
            obj = service("dns", "10.96.0.10", *ports, sessionAffinity=affinity, **everything)
            kernel.ruleset.replace([planned(obj, slices)])
            await kernel.write_whole()
            await kernel.write_whole()
        await kernel.change(planned(obj))
        await kernel.change(planned(obj, slices))
        assert await nft.is_present()
        await nft.apply(transaction.render_cleanup())
        assert await nft.existing() is None
        assert not await nft.is_present()

    asyncio.run(scenario())


def test_what_nft_refuses_leaves_everything_as_it_was(nft: Nft) -> None:
    async def scenario() -> None:
        kernel = Kernel(nft)
        kernel.ruleset.replace([web(2)])
        await kernel.write_whole()
        before = await nft.existing()
        with pytest.raises(NftRefused):
            await nft.apply(
                f"add chain {table.WHERE} new\nadd rule {table.WHERE} new drop\nadd rule {table.WHERE} none drop\n"
            )
        with pytest.raises(NftRefused):
            await nft.apply(f"delete element {table.WHERE} cluster-ips {{ 10.96.9.9 }}\n")
        assert await nft.existing() == before

    asyncio.run(scenario())


def test_the_whole_table_replaces_what_others_left_in_it(nft: Nft) -> None:
    async def scenario() -> None:
        kernel = Kernel(nft)
        kernel.ruleset.replace([web(2, sessionAffinity="ClientIP")])
        await kernel.write_whole()
        memories = (await nft.existing() or transaction.Existing()).sets
        # A proxy that starts knows nothing of the table.
        later = Kernel(nft)
        later.ruleset.replace([web(1, sessionAffinity="ClientIP")])
        await later.write_whole()
        left = await nft.existing()
        assert left is not None
        assert left.sets < memories
        assert {c for c in left.chains if c.startswith("ep/")} == {"ep/default/web/tcp/80/10.244.0.2/8080"}
        assert left.maps == table.MAPS.keys()

    asyncio.run(scenario())


def services_of(rng: random.Random, name: str, ip: str) -> tuple[ServiceName, plan.ServicePlan]:
    """Some state of a Service; sometimes it is gone."""
    if rng.random() < 0.15:
        return ServiceName("default", name), NOTHING
    obj = service(
        name,
        ip,
        port(80, rng.choice(["TCP", "UDP"]), nodePort=30080 if rng.random() < 0.5 else 0),
        type=rng.choice(["ClusterIP", "NodePort", "LoadBalancer"]),
        sessionAffinity=rng.choice(["None", "None", "ClientIP"]),
        externalTrafficPolicy=rng.choice(["Local", "Cluster"]),
        internalTrafficPolicy=rng.choice(["Local", "Cluster"]),
        externalIPs=["203.0.113.5"] if rng.random() < 0.3 else [],
        ingress=["203.0.113.6"] if rng.random() < 0.3 else [],
        loadBalancerSourceRanges=["198.51.100.0/24"] if rng.random() < 0.3 else [],
    )
    protocol = rng.choice(["TCP", "UDP"])
    endpoints = (
        endpoint(f"10.244.{place}.{i + 2}", "here" if place else "there")
        for i in range(rng.randrange(6))
        for place in (rng.randrange(2),)
    )
    return planned(obj, endpoint_slice(name, [port(8080, protocol)], *endpoints))


def test_odd_objects_make_scripts_that_hold(nft: Nft) -> None:
    async def scenario() -> None:
        rng = random.Random(5)
        kernel = Kernel(nft)
        await kernel.write_whole()
        texts = [
            "10.96.0.5",
            "10.96.0.6",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "None",
            "x",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "1",
        ]
        numbers = [0, 1, 80, 30080, 65535, 65536, -1]

        def some(values: list[Any]) -> list[Any]:
            return rng.sample(values, rng.randrange(4))

        for _ in range(60):
            names = [str(i) for i in range(rng.randrange(4))]
            protocols = [rng.choice(["TCP", "UDP", "SCTP", "X"]) for _ in names]
            ports = [
                port(rng.choice(numbers), p, n, nodePort=rng.choice(numbers))
                for n, p in zip(names, protocols, strict=True)
            ]
            obj = service(
                rng.choice(["web", "a" * 63, "Odd/Name", "x; flush ruleset", "é"]),
                rng.choice(texts),
                *ports,
                type=rng.choice(["ClusterIP", "NodePort", "LoadBalancer"]),
                clusterIPs=some(texts),
                externalIPs=some(texts),
                ingress=some(texts),
                loadBalancerSourceRanges=some(texts),
                sessionAffinity=rng.choice(["None", "ClientIP"]),
                externalTrafficPolicy=rng.choice(["Local", "Cluster"]),
                internalTrafficPolicy=rng.choice(["Local", "Cluster"]),
            )
            targets = [port(rng.choice(numbers), p, n) for n, p in zip(names, protocols, strict=True)]
            members = [endpoint(a, rng.choice(["here", "there"])) for a in some(texts)]
            await kernel.change(planned(obj, endpoint_slice("web", targets, *members)))
        await kernel.write_whole()

    asyncio.run(scenario())


def fates(nft: FakeNft) -> list[Fate]:
    addresses = ["10.96.0.5", "10.96.0.6", "10.96.0.7", "203.0.113.5", "203.0.113.6", "192.0.2.1"]
    fates = []
    for address in addresses:
        for protocol in ("tcp", "udp"):
            for source in ("10.244.3.3", "198.51.100.7", "192.0.2.200"):
                dport, is_node = (30080, True) if address == "192.0.2.1" else (80, False)
                fates.append(nft.destinations(Packet(address, protocol, dport, source, is_to_node=is_node)))
                for memory in nft.tables["ip kybern-proxy"].sets:
                    if memory.startswith("aff/"):
                        nft.tables["ip kybern-proxy"].sets[memory].elements.clear()
    return fates


@pytest.mark.parametrize("seed", range(12))
def test_changes_lead_where_a_fresh_table_would(seed: int) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        kernel = Kernel(FakeNft())
        await kernel.write_whole()
        names = {"a": "10.96.0.5", "b": "10.96.0.6", "c": "10.96.0.7"}
        for _ in range(40):
            if rng.random() < 0.1:
                await kernel.write_whole()
            picked = rng.sample(sorted(names), rng.randrange(1, 4))
            await kernel.change(*(services_of(rng, name, names[name]) for name in picked))
            fresh = FakeNft()
            await fresh.apply(transaction.Writer(SETTINGS).render_whole(kernel.ruleset, None))
            assert isinstance(kernel.nft, FakeNft)
            assert fates(kernel.nft) == fates(fresh)
            mine, theirs = kernel.nft.tables["ip kybern-proxy"], fresh.tables["ip kybern-proxy"]
            assert own(mine.chains) == own(theirs.chains)
            assert {n: c.elements for n, c in mine.sets.items()} == {n: c.elements for n, c in theirs.sets.items()}
            for name in table.MAPS:
                assert mine.maps[name].elements == theirs.maps[name].elements

    asyncio.run(scenario())


def test_two_services_with_one_address_do_not_fight() -> None:
    async def scenario() -> None:
        nft = FakeNft()
        kernel = Kernel(nft)
        await kernel.write_whole()
        first = planned(
            service("a", "10.96.0.5", port(80), externalIPs=["203.0.113.5"]),
            endpoint_slice("a", [port(80)], endpoint("10.244.0.2")),
        )
        second = planned(
            service("b", "10.96.0.6", port(80), externalIPs=["203.0.113.5"]),
            endpoint_slice("b", [port(80)], endpoint("10.244.0.3")),
        )
        packet = Packet("203.0.113.5", "tcp", 80)
        await kernel.change(second)
        assert nft.destinations(packet).targets == {"10.244.0.3:80"}
        await kernel.change(first)
        assert nft.destinations(packet).targets == {"10.244.0.2:80"}
        await kernel.change((ServiceName("default", "a"), NOTHING))
        assert nft.destinations(packet).targets == {"10.244.0.3:80"}

    asyncio.run(scenario())
