"""How fast the embedded store is: durable creates with many writers, reads, lists, boot.

python -m bench.store        (or bench.store.run() -> numbers by name)
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from pathlib import Path

import uvloop

from kybern.storage.interface import Revision
from kybern.storage.sqlite import SqliteStore

WRITERS = 32
WRITES = 12_000
VALUE = b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}'.ljust(1_500)


def run(directory: str | None = None) -> dict[str, float]:
    """Numbers by name: rates a second, times in ms. `directory`: where the file lies (default: a temporary one)."""
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        path = Path(temporary) / "kybern.db"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(path))


async def _measure(path: Path) -> dict[str, float]:
    store = await SqliteStore.open(path)
    watch = store.watch("/registry/", Revision(0))
    numbers: dict[str, float] = {}
    numbers[f"creates/s, {WRITERS} writers"] = await _creates(store, "pods", WRITERS, WRITES)
    numbers["creates/s, 256 writers"] = await _creates(store, "events", 256, WRITES)
    numbers["creates/s, 1 writer"] = await _creates(store, "nodes", 1, 500)
    seen = 0
    while seen < store.revision:
        seen += len(await anext(aiter(watch)))
    await watch.close()

    for i in range(3000):
        await store.get(f"/registry/pods/ns/{i:06}")
    start = time.perf_counter()
    for i in range(WRITES):
        await store.get(f"/registry/pods/ns/{i:06}")
    numbers["gets/s"] = WRITES / (time.perf_counter() - start)

    at = Revision(store.revision - 100)
    for name, options in {"now": {}, "a past revision": {"revision": at}}.items():
        start = time.perf_counter()
        for _ in range(20):
            page = await store.list("/registry/pods/ns/", limit=3000, **options)
        numbers[f"list of {len(page.records)}, {name}, ms"] = (time.perf_counter() - start) / 20 * 1000

    start = time.perf_counter()
    await store.compact(Revision(store.revision - 5_000))
    numbers["compact, ms"] = (time.perf_counter() - start) * 1000
    await store.close()
    gc.collect()
    start = time.perf_counter()
    store = await SqliteStore.open(path)
    numbers[f"boot with {store.revision} revisions, ms"] = (time.perf_counter() - start) * 1000
    start = time.perf_counter()
    scrubbed = await store.scrub()
    assert not scrubbed.faults
    numbers[f"scrub of {scrubbed.rows} rows, ms"] = (time.perf_counter() - start) * 1000
    await store.close()
    return numbers


async def _creates(store: SqliteStore, resource: str, writers: int, writes: int) -> float:
    left = iter(range(writes))

    async def write() -> None:
        for i in left:
            await store.create(f"/registry/{resource}/ns/{i:06}", VALUE)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for i in range(writers):
            group.create_task(write(), name=f"writer {i}")
    return writes / (time.perf_counter() - start)


if __name__ == "__main__":
    for name, number in run().items():
        print(f"{name:40} {number:12,.1f}")
