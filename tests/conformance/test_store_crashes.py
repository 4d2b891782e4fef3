"""The embedded store through power failures: a sample; `python tools/crash_store.py` is the whole."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from kybern.testing import store_crashes
from kybern.testing.crash_disk import Replay, Step

pytestmark = pytest.mark.thorough


def test_no_crash_loses_or_changes_what_was_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "load").mkdir()
        found = await store_crashes.record(tmp_path / "load", seed=3, writes=60)
        assert any(step.kind == "delete" for step in found.steps), "the load folds a WAL into its file"
        assert found.compacted
        for done, replay, fate, rng in store_crashes.crashes(found, seed=3, every=4):
            folder = tmp_path / f"{done}"
            folder.mkdir()
            replay.lay_out(folder, fate, rng)
            await store_crashes.check_crash(found, done, folder)

    asyncio.run(run())


def test_a_store_that_acknowledges_too_early_is_found_out(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "load").mkdir()
        found = await store_crashes.record(tmp_path / "load", seed=4, writes=30)
        found.told = [(at - 3, revision) for at, revision in found.told]
        with pytest.raises(AssertionError, match="was acknowledged"):
            for done, replay, _, rng in store_crashes.crashes(found, seed=4):
                folder = tmp_path / f"{done}"
                folder.mkdir()
                replay.lay_out(folder, "nothing", rng)
                await store_crashes.check_crash(found, done, folder)

    asyncio.run(run())


def test_a_torn_write_keeps_whole_sectors(tmp_path: Path) -> None:
    replay = Replay([Step("write", "f", 100, b"x" * 2000)], {"f": b"a" * 3000})
    seen = set()
    for done in replay:
        if done:
            for seed in range(60):
                replay.lay_out(tmp_path, "part", random.Random(seed))
                content = (tmp_path / "f").read_bytes()
                assert len(content) == 3000
                changed = [i for i, byte in enumerate(content) if byte == ord("x")]
                seen.add(len(changed))
                if changed:
                    assert changed == list(range(changed[0], changed[-1] + 1))
                    assert changed[0] == 100 or changed[0] % 512 == 0
                    assert changed[-1] == 2099 or (changed[-1] + 1) % 512 == 0
    assert {0, 2000} < seen
