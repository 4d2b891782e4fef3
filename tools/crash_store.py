"""Crash the embedded store at every write and sync of a load, in each way a disk may fail: `--writes N --seed S`.

Prints how many crashes were survived; ends with 1 at the first promise that was broken, and keeps its files.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from kybern.testing import store_crashes
from kybern.testing.crash_disk import FATES


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--writes", type=int, default=600)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--folder", type=Path, default=None, help="where to work; default: memory, if there is any")
    asked = arguments.parse_args()
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=asked.folder or (memory if memory.is_dir() else None)))
    (folder / "load").mkdir()
    return asyncio.run(crash(folder, asked.seed, asked.writes))


async def crash(folder: Path, seed: int, writes: int) -> int:
    found = await store_crashes.record(folder / "load", seed, writes)
    print(f"{len(found.changes)} revisions, {len(found.steps)} writes, syncs and deletes", flush=True)
    survived = 0
    for turn in range(len(FATES)):
        for done, replay, _, rng in store_crashes.crashes(found, seed + turn):
            fate = FATES[(done + turn) % len(FATES)]
            crashed = folder / "crashed"
            crashed.mkdir()
            replay.lay_out(crashed, fate, rng)
            try:
                await store_crashes.check_crash(found, done, crashed)
            except Exception as error:
                print(f"after step {done}, unsynced: {fate}: {type(error).__name__}: {error} (see {crashed})")
                return 1
            shutil.rmtree(crashed)
            survived += 1
    print(f"{survived} crashes survived")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
