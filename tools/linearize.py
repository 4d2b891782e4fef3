"""Concurrent clients of a three-member etcd through kills and pauses: is every history linearizable, every watch whole?

`python tools/linearize.py --runs 300 --seed 1 --record runs.jsonl`. Each run has its own seed and keys, two stores with
several clients each, a nemesis, and a watch a store. A run in which fewer than nine of ten operations were answered
proves little: it is invalid and done again with the next seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kybern.storage.etcd import Endpoints, EtcdStore
from kybern.storage.interface import Change, KeyExists, KeyMissing, Record, Revision, RevisionMismatch, StoreUnavailable
from kybern.testing import etcd
from kybern.testing.linearize import Operation, Outcome, Trial, is_linearizable

KEYS = 3
CLIENTS = 3  # of each store
SECONDS = 2.5


@dataclass
class Run(Trial):
    watched: list[list[Change]] = field(default_factory=list)


def seen_of(record: Record) -> tuple[str, int]:
    return record.value.decode(), int(record.mod_revision)


async def operate(run: Run, store: EtcdStore, key: str, value: str, dice: random.Random) -> None:
    """One operation, noted as it was answered."""
    kind = dice.choice(("create", "update", "update", "update", "delete", "get", "get"))
    expected, revision, seen = 0, 0, None
    outcome: Outcome
    called = time.monotonic()
    try:
        if kind in ("update", "delete"):
            current = await store.get(key)
            run.histories[key].append(
                Operation(
                    called,
                    time.monotonic(),
                    "get",
                    "found" if current else "nothing",
                    seen=seen_of(current) if current else None,
                )
            )
            if current is None:
                return
            expected = int(current.mod_revision)
            await asyncio.sleep(dice.random() * 0.01)
            called = time.monotonic()
        if kind == "get":
            found = await store.get(key)
            outcome, seen = ("found", seen_of(found)) if found else ("nothing", None)
        else:
            made = await (
                store.create(key, value.encode())
                if kind == "create"
                else store.update(key, value.encode(), Revision(expected))
                if kind == "update"
                else store.delete(key, Revision(expected))
            )
            outcome, revision = "done", int(made.mod_revision)
    except KeyExists as refusal:
        outcome, seen = "exists", seen_of(refusal.record)
    except RevisionMismatch as refusal:
        outcome, seen = "mismatch", seen_of(refusal.record)
    except KeyMissing:
        outcome = "missing"
    except StoreUnavailable:
        outcome = "unknown"
    returned = math.inf if outcome == "unknown" else time.monotonic()
    run.histories[key].append(Operation(called, returned, kind, outcome, value, expected, revision, seen))  # type: ignore[arg-type]


async def play(members: list[etcd.Member], seed: int) -> Run:
    run = Run(seed)
    rng = random.Random(seed)
    root = f"/run/{seed}/"
    urls = [member.url for member in members]
    stores = []
    for _ in range(2):
        rng.shuffle(urls)
        stores.append(await EtcdStore.open(Endpoints(tuple(urls))))
    begun = max([await store.refresh() for store in stores])
    end = time.monotonic() + SECONDS

    async def client(store: EtcdStore, dice: random.Random, name: str) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            await operate(run, store, f"{root}{dice.randrange(KEYS)}", f"{name}-{number}", dice)
            await asyncio.sleep(dice.random() * 0.02)

    async def follow(store: EtcdStore, told: list[Change]) -> None:
        async for changes in store.watch(root, begun):
            told += changes
            if changes[-1].key == f"{root}end":
                return

    async def nemesis(dice: random.Random) -> None:
        await asyncio.sleep(dice.random() * 0.8)
        member = dice.choice(members)
        what = dice.choice(("kill", "pause", "none"))
        run.nemesis.append(f"{what} {member.name}")
        if what == "kill":
            await asyncio.to_thread(member.kill)
            await asyncio.sleep(0.2 + dice.random())
            member.start()
            await asyncio.to_thread(member.wait)
        elif what == "pause":
            member.pause()
            await asyncio.sleep(0.2 + dice.random())
            member.resume()

    run.watched = [[] for _ in stores]
    try:
        async with asyncio.TaskGroup() as watches:
            for store, told in zip(stores, run.watched, strict=True):
                watches.create_task(follow(store, told))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(nemesis(random.Random(rng.getrandbits(64))))
                for s, store in enumerate(stores):
                    for c in range(CLIENTS):
                        tasks.create_task(client(store, random.Random(rng.getrandbits(64)), f"{s}.{c}"))
            for _ in range(20):
                try:
                    await stores[0].create(f"{root}end", b"")
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.3)
                except KeyExists:
                    break
    finally:
        for store in stores:
            await store.close()
    return run


def faults(run: Run) -> list[str]:
    """What was promised and not kept."""
    found = [f"{key} is not linearizable" for key, history in run.histories.items() if not is_linearizable(history)]
    for number, told in enumerate(run.watched):
        revisions = [change.revision for change in told]
        if revisions != sorted(set(revisions)):
            found.append(f"watch {number}: revisions repeat or go back")
        values = {change.revision: change for change in told}
        for key, history in run.histories.items():
            for operation in history:
                if operation.outcome != "done":
                    continue
                change = values.get(Revision(operation.revision))
                if change is None or change.key != key:
                    found.append(f"watch {number}: the {operation.kind} of {key} at {operation.revision} is missing")
                elif operation.kind == "delete" and change.record is not None:
                    found.append(f"watch {number}: the delete of {key} at {operation.revision} is told as a write")
                elif operation.kind != "delete" and (
                    change.record is None or change.record.value != operation.value.encode()
                ):
                    found.append(f"watch {number}: {key} at {operation.revision} has another value")
        state: dict[str, Record] = {}
        for change in told:
            if change.previous != state.get(change.key):
                found.append(
                    f"watch {number}: {change.key} at {change.revision} does not follow on what was told before"
                )
            if change.record is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.record
    if run.watched and any(told != run.watched[0] for told in run.watched):
        found.append("the watches differ")
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--record", type=Path, default=None)
    asked = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="linearize-"))
    members = etcd.cluster(folder, 3, ("--heartbeat-interval", "50", "--election-timeout", "500"))
    etcd.run(members)
    valid = invalid = operations = 0
    seed = asked.seed
    try:
        while valid < asked.runs:
            run = asyncio.run(play(members, seed))
            wrong = faults(run)
            if asked.record:
                with asked.record.open("a") as file:
                    row = {
                        "seed": seed,
                        "nemesis": run.nemesis,
                        "operations": len(run.operations),
                        "answered": run.answered,
                        "faults": wrong,
                    }
                    file.write(json.dumps(row) + "\n")
            if wrong:
                print(f"seed {seed}, {run.nemesis}: {wrong[:5]}")
                for key, history in run.histories.items():
                    Path(folder / f"{key.replace('/', '_')}.json").write_text(json.dumps([asdict(o) for o in history]))
                print(f"histories are in {folder}")
                return 1
            if run.answered < 0.9:
                invalid += 1
            else:
                valid += 1
            operations += len(run.operations)
            seed += 1
            if (valid + invalid) % 10 == 0:
                print(f"{valid} runs valid, {invalid} not, {operations} operations", flush=True)
    finally:
        for member in members:
            member.resume()
            member.kill()
    print(f"{valid} valid runs of {valid + invalid}, {operations} operations: linearizable, watches whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
