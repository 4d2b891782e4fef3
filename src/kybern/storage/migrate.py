"""Copy what one store holds into another, empty one, and prove that it is the same.

Used by `kybern migrate`, with every server stopped. Values are copied as they are, byte for byte, encrypted ones too;
history is not, and revisions are those of the new store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from kybern.storage.interface import Record, Store, StoreError

AT_ONCE = 64  # writes under way
PAGE = 2_000


class NotEmpty(StoreError):
    """The target holds something already."""


class NotTheSame(StoreError):
    """What was copied reads differently in the target. Names the key."""


async def copy(source: Store, target: Store, prefix: str = "/") -> int:
    """How many keys were copied. Raises NotEmpty, NotTheSame, StoreUnavailable."""
    there = await target.list(prefix, limit=1)
    if there.records:
        raise NotEmpty(f"the target holds {there.records[0].key} already: it must be empty")
    copied = 0
    async for records in _pages(source, prefix):
        for start in range(0, len(records), AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                for record in records[start : start + AT_ONCE]:
                    tasks.create_task(target.create(record.key, record.value), name="copy")
        copied += len(records)
    await _compare(source, target, prefix)
    return copied


async def _pages(store: Store, prefix: str) -> AsyncIterator[Sequence[Record]]:
    after = ""
    revision = None
    while True:
        page = await store.list(prefix, limit=PAGE, after=after, revision=revision)
        if page.records:
            yield page.records
        if not page.more:
            return
        after, revision = page.records[-1].key, page.revision


async def _compare(source: Store, target: Store, prefix: str) -> None:
    copies = _pages(target, prefix)
    async for records in _pages(source, prefix):
        found: Sequence[Record] = await anext(copies, ())
        for ours, theirs in zip(records, found, strict=False):
            if (ours.key, ours.value) != (theirs.key, theirs.value):
                raise NotTheSame(f"{ours.key} is not the same in the target")
        if len(records) != len(found):
            raise NotTheSame(f"the target holds {len(found)} keys where {len(records)} were copied")
    if await anext(copies, None) is not None:
        raise NotTheSame("the target holds more than was copied")
