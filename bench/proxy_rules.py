"""How long the proxy takes for all rules, and for one change, by number of Services. Needs root and nft.

unshare -n python -m bench.proxy_rules 1000 10000
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable

from kybern.proxy import plan
from kybern.proxy.endpoints import Node
from kybern.proxy.nft import table, transaction
from kybern.proxy.nft.run import NftCommand
from kybern.proxy.ruleset import Ruleset, ServiceName, ServicePlan
from kybern.testing.services import endpoint, endpoint_slice, port, service

VIEW = plan.View(Node("here", frozenset({"192.0.2.1"})), ("10.244.0.0/16",))
ENDPOINTS = 3


def planned(number: int, endpoints: int = ENDPOINTS) -> tuple[ServiceName, ServicePlan]:
    name, ip = f"web-{number}", f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250}"
    members = (endpoint(f"10.244.{number % 250}.{i + 2}") for i in range(endpoints))
    obj = service(name, ip, port(80, name="http"))
    return plan.service_name(obj), plan.plan_service(
        obj, [endpoint_slice(name, [port(8080, name="http")], *members)], VIEW
    )


async def timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000


async def apply_all(nft: NftCommand, scripts: list[str]) -> None:
    for script in scripts:
        await nft.apply(script)


async def measure(services: int) -> None:
    nft, ruleset = NftCommand(), Ruleset()
    writer = transaction.Writer(table.Settings(cluster_networks=VIEW.cluster_networks))
    started = time.perf_counter()
    ruleset.replace([planned(number) for number in range(services)])
    planning = (time.perf_counter() - started) * 1000
    first = await timed(nft.apply(writer.render_whole(ruleset, await nft.existing())))
    again = await timed(nft.apply(writer.render_whole(ruleset, await nft.existing())))
    changes = [
        await timed(apply_all(nft, writer.render_delta(ruleset.replace([planned(7, 2 + turn % 5)]))))
        for turn in range(15)
    ]
    await nft.apply(transaction.render_cleanup())
    print(
        f"{services:6} services: plan {planning:6.0f} ms, write all {first:6.0f} ms, again {again:6.0f} ms, "
        f"one change {statistics.median(changes):5.1f} ms (worst {max(changes):5.1f})"
    )


if __name__ == "__main__":
    for text in sys.argv[1:] or ["1000"]:
        asyncio.run(measure(int(text)))
