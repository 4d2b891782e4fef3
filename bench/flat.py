"""What should cost the same however many objects there are, side by side: one server for each size, asked in turns.

Run by `python -m bench flat`. On a shared machine this tells growth from other work, which bench/curves, that
measures one size after the other, cannot. `KYBERN_BENCH_SIZES` (from 1000 on) are the numbers of pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from bench import apiserver as base
from bench import curves, listing, stock
from bench.apiserver import Peer
from bench.peer import cpu_seconds

TURNS = 8
CREATES = 400

ROWS = {
    "GET, server's CPU": "us",
    "CREATE, server's CPU": "us",
    "LIST 500 by label": "ms",
    "LIST a namespace of 100": "ms",
    "LIST a page of 500": "ms",
}


def ask(peer: Peer, size: int, turn: int) -> list[float]:
    """One turn of all rows."""
    port, path = peer.port, stock.PODS_PATH
    began = cpu_seconds(peer)
    gets = curves.wrk_any(port, size) * curves.SECONDS
    got = cpu_seconds(peer)
    asyncio.run(base.create_pods(port, CREATES, turn * CREATES))
    return [
        (got - began) / gets * 1e6,
        (cpu_seconds(peer) - got) / CREATES * 1e6,
        listing.milliseconds(port, f"{path}?labelSelector=group%3Dgroup-0001", stock.GROUP),
        listing.milliseconds(port, f"{stock.SMALL_PATH}?resourceVersion=0", stock.SMALL),
        listing.milliseconds(port, f"{path}?limit=500", 500),
    ]


def run() -> dict[str, float | str]:
    if shutil.which("wrk") is None or shutil.which("curl") is None:
        return {"flat": "wrk or curl is not installed (apt-get install wrk curl)"}
    told: dict[int, list[list[float]]] = {size: [] for size in curves.SIZES}
    with contextlib.ExitStack() as servers:
        peers = {size: servers.enter_context(curves.ours(size, lambda _row, _value: None)) for size in curves.SIZES}
        for turn in range(TURNS):
            for size, peer in peers.items():
                told[size].append(ask(peer, size, turn))
    shown: dict[str, float | str] = {"pods": "  ".join(f"{size:>9,}" for size in told)}
    for number, (row, unit) in enumerate(ROWS.items()):
        best = [min(turn[number] for turn in turns) for turns in told.values()]
        shown[row] = (
            "  ".join(f"{value:>9,.2f}" for value in best) + f" {unit}  {best[-1] / best[0]:.2f} times the first"
        )
    return shown
