"""API servers over an etcd whose network fails: is every history linearizable, every watch whole?

`python tools/partitions.py --runs 300 --seed 1 --record runs.jsonl`, as root. One or three members of etcd and two or
three API servers, each in a network namespace of its own, with client certificates between them. A run has its own
seed: clients of each server, a watch of each (broken off and resumed now and then, one of them always at another
server), lists, and a nemesis that cuts, slows and kills. A run in which fewer than nine of ten operations were answered
proves little: it is invalid, and done again with the next seed. Twenty runs share a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import requests

from kybern.client import rest
from kybern.client.clock import RealClock
from kybern.client.kubeconfig import Access, Pem
from kybern.machinery.status import ApiError
from kybern.testing import etcd, watched
from kybern.testing.api_server_process import TOKEN, ApiServerProcess
from kybern.testing.linearize import Operation, Outcome, Trial, is_linearizable
from kybern.testing.switch import Switch
from kybern.testing.watched import Snapshot, Told, Watched

KEYS = 3
CLIENTS = 3  # of each server
SECONDS = 4.0
PATIENCE = 3.0  # seconds that a client waits for an answer
RECOVERY = 30.0  # seconds in which, once the network is whole, every watch must have reached the end
RUNS_A_CLUSTER = 20
LAYOUTS = (  # members, servers, whether a server knows only the member beside it
    (3, 2, False),
    (3, 3, True),
    (1, 2, False),
    (3, 3, False),
    (3, 2, True),
)


@dataclass
class Run(Trial):
    watches: list[Watched] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    recovery: float = 0.0  # seconds until every watch had reached the end

    def faults(self) -> list[str]:
        found = [f"{key} is not linearizable" for key, h in self.histories.items() if not is_linearizable(h)]
        return found + watched.faults(self.watches, self.histories, self.snapshots)


class Cluster:
    """Members and servers of one layout, on a switch."""

    def __init__(self, folder: Path, size: int, servers: int, *, is_stacked: bool) -> None:
        self.folder = folder
        self.switch = Switch()
        try:
            addresses = {f"m{i}": self.switch.add(f"m{i}") for i in range(size)}
            addresses |= {f"s{i}": self.switch.add(f"s{i}") for i in range(servers)}
            self.certificates = etcd.make_certificates(folder, [*addresses.values(), "127.0.0.1"])
            self.members = etcd.cluster(
                folder,
                size,
                ("--heartbeat-interval", "100", "--election-timeout", "700", "--unsafe-no-fsync"),
                self.certificates,
                [etcd.Place(2379, 2380, addresses[f"m{i}"], self.switch.command(f"m{i}")) for i in range(size)],
            )
            self.known = {f"s{i}": [self.members[i % size]] if is_stacked else self.members for i in range(servers)}
            self.servers = [
                ApiServerProcess(
                    folder,
                    6443,
                    self.known[f"s{i}"],
                    self.certificates,
                    name=f"s{i}",
                    address=addresses[f"s{i}"],
                    others=list(addresses.values()),
                    before=self.switch.command(f"s{i}"),
                )
                for i in range(servers)
            ]
        except BaseException:
            self.switch.close()
            raise

    def start(self) -> None:
        etcd.run(self.members)
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait(60)

    def close(self) -> None:
        for server in self.servers:
            server.kill()
        for member in self.members:
            member.resume()
            member.kill()
        self.switch.close()

    def leader(self) -> str:
        """The member that says it leads, or the first one."""
        certificates = self.certificates
        for member in self.members:
            with contextlib.suppress(requests.RequestException, KeyError):
                told = requests.post(
                    f"{member.url}/v3/maintenance/status",
                    json={},
                    timeout=1,
                    verify=str(certificates.ca),
                    cert=(str(certificates.certificate), str(certificates.key)),
                ).json()
                if told["leader"] == told["header"]["member_id"]:
                    return member.name
        return self.members[0].name


class Nemesis:
    """What goes wrong in a run: chosen by the dice, undone at the end."""

    def __init__(self, cluster: Cluster, dice: random.Random, log: list[str]) -> None:
        self._cluster = cluster
        self._switch = cluster.switch
        self._dice = dice
        self._log = log
        self._members = [m.name for m in cluster.members]
        self._servers = [s.name for s in cluster.servers]

    async def run(self) -> None:
        await asyncio.sleep(self._dice.random() * 0.6)
        for _ in range(self._dice.choice((1, 1, 2))):
            faults: list[Callable[[], Awaitable[None]]] = [
                self._server_cut_off,
                self._server_one_way,
                self._lossy,
                self._slow,
                self._unplugged,
                self._server_killed,
            ]
            if len(self._members) > 1:
                faults += [
                    self._member_alone,
                    self._leader_alone,
                    self._leader_alone,
                    self._one_way,
                    self._one_way,
                    self._leader_one_way,
                    self._pair_cut,
                    self._member_killed,
                    self._member_paused,
                ]
            await self._dice.choice(faults)()
            await asyncio.to_thread(self._switch.heal)
            await asyncio.sleep(self._dice.random() * 0.5)

    async def _for(self, what: str) -> None:
        self._log.append(what)
        await asyncio.sleep(0.4 + self._dice.random() * 1.8)

    async def _cut(self, what: str, sources: list[str], targets: list[str], *, both: bool = True) -> None:
        await asyncio.to_thread(self._switch.cut, sources, targets, both=both)
        await self._for(what)

    def _others(self, name: str) -> list[str]:
        """Members, and now and then servers too."""
        others = [m for m in self._members if m != name]
        return others if self._dice.random() < 0.6 else others + self._servers

    async def _member_alone(self) -> None:
        name = self._dice.choice(self._members)
        others = self._others(name)
        await self._cut(f"{name} alone, without {' '.join(others)}", [name], others)

    async def _leader_alone(self) -> None:
        name = await asyncio.to_thread(self._cluster.leader)
        others = self._others(name)
        await self._cut(f"leader {name} alone, without {' '.join(others)}", [name], others)

    async def _one_way(self) -> None:
        name = self._dice.choice(self._members)
        await self._half(name)

    async def _leader_one_way(self) -> None:
        await self._half(await asyncio.to_thread(self._cluster.leader))

    async def _half(self, name: str) -> None:
        others = self._others(name)
        if self._dice.random() < 0.5:
            await self._cut(f"nothing from {name} to {' '.join(others)}", [name], others, both=False)
        else:
            await self._cut(f"nothing from {' '.join(others)} to {name}", others, [name], both=False)

    async def _pair_cut(self) -> None:
        one, other = self._dice.sample(self._members, 2)
        await self._cut(f"{one} and {other} do not hear each other", [one], [other])

    def _server_and_members(self) -> tuple[str, list[str]]:
        """A server, and the members that it is to miss: all that it knows, or one."""
        name = self._dice.choice(self._servers)
        known = [m.name for m in self._cluster.known[name]]
        return name, known if self._dice.random() < 0.6 else [self._dice.choice(known)]

    async def _server_cut_off(self) -> None:
        name, members = self._server_and_members()
        await self._cut(f"{name} cut off from {' '.join(members)}", [name], members)

    async def _server_one_way(self) -> None:
        name, members = self._server_and_members()
        if self._dice.random() < 0.5:
            await self._cut(f"nothing from {name} to {' '.join(members)}", [name], members, both=False)
        else:
            await self._cut(f"nothing from {' '.join(members)} to {name}", members, [name], both=False)

    async def _lossy(self) -> None:
        name = self._dice.choice(self._members)
        others = self._others(name) or self._servers
        await asyncio.to_thread(self._switch.lose, [name], others)
        await self._for(f"lossy between {name} and {' '.join(others)}")

    async def _slow(self) -> None:
        name, rate = self._dice.choice([*self._members, *self._servers]), self._dice.choice((200, 600, 2000))
        await asyncio.to_thread(self._switch.slow, name, rate)
        await self._for(f"{rate} kbit/s to {name}")

    async def _unplugged(self) -> None:
        name = self._dice.choice(self._members if len(self._members) > 1 else self._servers)
        await asyncio.to_thread(self._switch.unplug, name)
        await self._for(f"{name} unplugged")

    async def _server_killed(self) -> None:
        server = self._dice.choice(self._cluster.servers)
        await asyncio.to_thread(server.kill)
        server.start()
        self._log.append(f"{server.name} killed")
        await asyncio.to_thread(partial(server.wait, 60, supervised=True))

    async def _member_killed(self) -> None:
        member = self._dice.choice(self._cluster.members)
        await asyncio.to_thread(member.kill)
        await self._for(f"{member.name} killed")
        member.start()
        await asyncio.to_thread(member.wait)

    async def _member_paused(self) -> None:
        member = self._dice.choice(self._cluster.members)
        member.pause()
        await self._for(f"{member.name} paused")
        member.resume()


class Story:
    """The clients of one run."""

    def __init__(self, cluster: Cluster, run: Run, rng: random.Random) -> None:
        self._cluster = cluster
        self._run = run
        self._rng = rng
        self._namespace = f"run-{run.seed}"
        self._path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        self._apis = [
            rest.RestClient(Access(s.url, ca=Pem(file=str(s.pki.ca)), token=TOKEN), RealClock())
            for s in cluster.servers
        ]

    async def play(self) -> None:
        run, rng = self._run, self._rng
        await self._until_answered(0, "POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        begun = 0
        for number in range(len(self._apis)):
            told = await self._until_answered(number, "GET", self._path)
            begun = max(begun, int(told["metadata"]["resourceVersion"]))
        names = [*(s.name for s in self._cluster.servers), "roaming"]
        run.watches = [Watched(f"the watch at {name}", begun) for name in names]
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as watching:
            tasks = [
                watching.create_task(self._follow(number, watch, random.Random(rng.getrandbits(64))))
                for number, watch in enumerate(run.watches)
            ]
            async with asyncio.TaskGroup() as playing:
                nemesis = Nemesis(self._cluster, random.Random(rng.getrandbits(64)), run.nemesis)
                playing.create_task(nemesis.run())
                for number in range(len(self._apis)):
                    playing.create_task(self._look(number, random.Random(rng.getrandbits(64)), end))
                    for client in range(CLIENTS):
                        dice = random.Random(rng.getrandbits(64))
                        playing.create_task(self._write(number, f"{number}.{client}", dice, end))
            whole = time.monotonic()
            end_of_all = {"metadata": {"name": "end", "labels": {"run": str(run.seed)}}}
            await self._until_answered(0, "POST", self._path, end_of_all)
            _, late = await asyncio.wait(tasks, timeout=RECOVERY)
            run.recovery = time.monotonic() - whole
            for task in late:
                task.cancel()
        if late:
            raise RuntimeError(f"{len(late)} watches were not at the end {RECOVERY} s after the network was whole")
        for number in range(len(self._apis)):
            await self._snapshot(number, 20.0)
        await self._until_answered(0, "DELETE", f"/api/v1/namespaces/{self._namespace}/configmaps")
        for api in self._apis:
            api.close()

    async def _ask(self, number: int, method: str, path: str, body: object = None, **query: str) -> dict[str, object]:
        """Raises ApiError, TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            answer = await self._apis[number].request(
                method, path, body=msgspec.json.encode(body) if body is not None else b"", query=query
            )
        return answer.json()  # type: ignore[no-any-return]

    async def _until_answered(
        self, number: int, method: str, path: str, body: object = None
    ) -> dict[str, dict[str, str]]:
        """Before and after the run: the network is whole, and the answer must come."""
        end = time.monotonic() + RECOVERY
        while True:
            try:
                return await self._ask(number, method, path, body)  # type: ignore[return-value]
            except (ApiError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.is_already_exists:
                    return {}
                if time.monotonic() > end:
                    raise RuntimeError(f"{method} {path} at {self._cluster.servers[number].name}: {error!r}") from None
                await asyncio.sleep(0.2)

    # clients
    async def _write(self, number: int, name: str, dice: random.Random, end: float) -> None:
        count = 0
        while time.monotonic() < end:
            count += 1
            await self._operate(number, f"k{dice.randrange(KEYS)}", f"{name}-{count}", dice)
            await asyncio.sleep(dice.random() * 0.04)

    async def _operate(self, number: int, key: str, value: str, dice: random.Random) -> None:
        kind = dice.choice(("create", "update", "update", "update", "delete", "get", "get"))
        path, expected = f"{self._path}/{key}", 0
        if kind in ("update", "delete", "get"):
            called = time.monotonic()
            outcome, found = await self._outcome(number, "get", "GET", path, None)
            seen = (found["data"]["value"], int(found["metadata"]["resourceVersion"])) if found else None
            self._note(key, Operation(called, self._returned(outcome), "get", outcome, seen=seen))
            if found is None or kind == "get":
                return
            expected = int(found["metadata"]["resourceVersion"])
            await asyncio.sleep(dice.random() * 0.01)
        called = time.monotonic()
        metadata = {"name": key, "labels": {"run": str(self._run.seed)}}
        if kind == "create":
            body: object = {"metadata": metadata, "data": {"value": value}}
            outcome, made = await self._outcome(number, kind, "POST", self._path, body)
        elif kind == "update":
            body = {"metadata": {**metadata, "resourceVersion": str(expected)}, "data": {"value": value}}
            outcome, made = await self._outcome(number, kind, "PUT", path, body)
        else:
            body = {"preconditions": {"resourceVersion": str(expected)}}
            outcome, made = await self._outcome(number, kind, "DELETE", path, body)
        revision = int(made["metadata"]["resourceVersion"]) if made and kind != "delete" else 0
        operation = Operation(called, self._returned(outcome), kind, outcome, value, expected, revision)  # type: ignore[arg-type]
        self._note(key, operation)
        if outcome == "unknown":
            await asyncio.sleep(0.1)

    def _note(self, key: str, operation: Operation) -> None:
        self._run.histories[key].append(operation)

    def _returned(self, outcome: Outcome) -> float:
        return math.inf if outcome == "unknown" else time.monotonic()

    async def _outcome(
        self, number: int, kind: str, method: str, path: str, body: object
    ) -> tuple[Outcome, dict[str, dict[str, str]] | None]:
        try:
            answer = await self._ask(number, method, path, body)
            return "found" if kind == "get" else "done", answer  # type: ignore[return-value]
        except TimeoutError:
            return "unknown", None
        except ApiError as error:
            if error.is_not_found:
                return "nothing" if kind == "get" else "missing", None
            if error.code == 409:
                return "exists" if error.is_already_exists else "mismatch", None
            if error.code < 500 and error.code != 429:
                raise RuntimeError(f"{method} {path}: {error.code} {error}") from error
            return "unknown", None

    async def _look(self, number: int, dice: random.Random, end: float) -> None:
        """Lists, and watches that begin with the state."""
        while time.monotonic() < end:
            await asyncio.sleep(dice.random() * 0.4)
            with contextlib.suppress(ApiError, TimeoutError):
                await (self._snapshot(number, PATIENCE) if dice.random() < 0.6 else self._initial(number))

    async def _snapshot(self, number: int, patience: float) -> None:
        called = time.monotonic()
        async with asyncio.timeout(patience):
            answer = (await self._apis[number].request("GET", self._path)).json()
        items = {i["metadata"]["name"]: _seen(i) for i in answer["items"]}
        self._run.snapshots.append(Snapshot(int(answer["metadata"]["resourceVersion"]), called, _without_end(items)))

    async def _initial(self, number: int) -> None:
        called = time.monotonic()
        query = {"watch": "1", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        items = {}
        async with (
            asyncio.timeout(PATIENCE),
            self._apis[number].stream("GET", self._path, query={**query, "allowWatchBookmarks": "true"}) as parts,
        ):
            async for line in rest.lines_of(parts):
                event = msgspec.json.decode(line)
                if event["type"] == "BOOKMARK":
                    revision = int(event["object"]["metadata"]["resourceVersion"])
                    self._run.snapshots.append(Snapshot(revision, called, _without_end(items)))
                    return
                if event["type"] != "ADDED":
                    raise RuntimeError(f"{event['type']} before the end of the initial events")
                items[event["object"]["metadata"]["name"]] = _seen(event["object"])

    # watches
    async def _follow(self, number: int, watch: Watched, dice: random.Random) -> None:
        """Until the end is told. The one that roams changes the server with every resumption."""
        roams = number == len(self._apis)
        reached = watch.since
        while True:
            at = dice.randrange(len(self._apis)) if roams else number
            try:
                async with asyncio.timeout(0.3 + dice.random() * 3):
                    reached, is_end = await self._read(at, watch, reached, dice)
                if is_end:
                    return
            except TimeoutError:
                pass
            except ApiError as error:
                if error.code < 500 and error.code != 429:
                    raise RuntimeError(f"{watch.name} at {reached}: {error.code} {error}") from error
                await asyncio.sleep(0.1)
            reached = max((t.revision for t in watch.told), default=watch.since)
            watch.resumed += 1

    async def _read(self, at: int, watch: Watched, reached: int, dice: random.Random) -> tuple[int, bool]:
        """One connection: by name space, or over all of them by label; with a time limit, so that bookmarks come."""
        is_narrow = dice.random() < 0.5
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(reached),
            "timeoutSeconds": str(dice.choice((1, 2, 60))),
        }
        path = self._path if is_narrow else "/api/v1/configmaps"
        if is_narrow is False:
            query["labelSelector"] = f"run={self._run.seed}"
        async with self._apis[at].stream("GET", path, query=query, timeout=PATIENCE) as parts:
            async for line in rest.lines_of(parts):
                event = msgspec.json.decode(line)
                told = event["object"]
                if event["type"] == "ERROR":
                    if told["code"] < 500:
                        raise RuntimeError(f"{watch.name} at {reached}: {told}")
                    raise ApiError.unavailable(told["message"])
                revision = int(told["metadata"]["resourceVersion"])
                if event["type"] == "BOOKMARK":
                    watch.told.append(Told("BOOKMARK", revision))
                elif told["metadata"]["name"] == "end":
                    return revision, True
                else:
                    watch.told.append(Told(event["type"], revision, told["metadata"]["name"], told["data"]["value"]))
        return reached, False


def _seen(obj: dict[str, dict[str, str]]) -> tuple[str, int]:
    return obj.get("data", {}).get("value", ""), int(obj["metadata"]["resourceVersion"])


def _without_end(items: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    return {name: seen for name, seen in items.items() if not name.startswith(("end", "kube-"))}


def layout_of(seed: int) -> tuple[int, int, bool]:
    return LAYOUTS[seed // RUNS_A_CLUSTER % len(LAYOUTS)]


def describe(run: Run, wrong: list[str]) -> dict[str, object]:
    """A line of the record."""
    size, servers, is_stacked = layout_of(run.seed)
    told = [t for watch in run.watches for t in watch.told]
    return {
        "seed": run.seed,
        "members": size,
        "servers": servers,
        "stacked": is_stacked,
        "nemesis": run.nemesis,
        "operations": len(run.operations),
        "answered": round(run.answered, 4),
        "events": sum(t.type != "BOOKMARK" for t in told),
        "bookmarks": sum(t.type == "BOOKMARK" for t in told),
        "resumed": sum(w.resumed for w in run.watches),
        "lists": len(run.snapshots),
        "recovery": round(run.recovery, 2),
        "faults": wrong,
    }


def play(cluster: Cluster, seed: int) -> tuple[Run, list[str]]:
    run, broken = Run(seed), []
    try:
        asyncio.run(Story(cluster, run, random.Random(seed)).play())
    except* RuntimeError as group:
        broken = [str(error) for error in group.exceptions]
    finally:
        cluster.switch.heal()
    return run, broken or run.faults()


def save(folder: Path, run: Run) -> None:
    """All that was seen, for whoever looks for the reason."""
    (folder / "histories.json").write_text(
        json.dumps({key: [asdict(o) for o in history] for key, history in run.histories.items()})
    )
    (folder / "watches.json").write_text(json.dumps([asdict(w) for w in run.watches]))
    (folder / "lists.json").write_text(json.dumps([asdict(s) for s in run.snapshots]))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=20, help="valid ones")
    arguments.add_argument("--seed", type=int, default=1, help="of the first")
    arguments.add_argument("--record", type=Path, default=None, help="a file of JSON lines, appended to")
    asked = arguments.parse_args()
    valid = invalid = operations = 0
    seed = asked.seed
    cluster: Cluster | None = None
    folder = Path()
    try:
        while valid < asked.runs:
            if cluster is None or seed % RUNS_A_CLUSTER == 0:
                if cluster is not None:
                    cluster.close()
                    cluster = None
                    shutil.rmtree(folder)
                size, servers, is_stacked = layout_of(seed)
                folder = Path(tempfile.mkdtemp(prefix="kybern-partitions-"))
                cluster = Cluster(folder, size, servers, is_stacked=is_stacked)
                cluster.start()
            run, wrong = play(cluster, seed)
            line = describe(run, wrong)
            if asked.record:
                with asked.record.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if wrong:
                save(folder, run)
                print(f"seed {seed}, {run.nemesis}: {wrong[:5]}\nhistories and logs are in {folder}")
                return 1
            is_valid = run.answered >= 0.9
            valid, invalid = valid + is_valid, invalid + (not is_valid)
            operations += len(run.operations)
            seed += 1
            print(f"{valid} valid, {invalid} not, {operations} operations; {json.dumps(line)}", flush=True)
    finally:
        if cluster is not None:
            cluster.close()
    shutil.rmtree(folder)
    print(f"{valid} valid runs of {valid + invalid}, {operations} operations: linearizable, watches whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
