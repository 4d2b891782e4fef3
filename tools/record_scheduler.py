"""Ask a real cluster's scheduler what it makes of the worlds in tests/unit/scheduler/answers, and write it down.

Usage: record_scheduler.py KUBECONFIG [schedulerName] [world...]. The cluster must be an empty one for tests (all its
nodes and pods of namespace `default` are deleted), with an API server, a scheduler, and no kubelet.
With a schedulerName other than default-scheduler nothing is written: differences to what is recorded are printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sys
from typing import Any

import orjson
import yaml

from kybern.api import core_v1, policy_v1, scheduling_v1, storage_v1
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery import scheme
from kybern.machinery.status import ApiError
from kybern.testing import scheduler_worlds

HERE = pathlib.Path(__file__).parent.parent / "tests/unit/scheduler/answers"
TRIES = 6  # how often a pod that fits is placed, to see which nodes are equals
MERGE = "application/merge-patch+json"
WIPED = (core_v1.Pod, core_v1.Node, core_v1.PersistentVolumeClaim, core_v1.PersistentVolume, core_v1.Service,
         policy_v1.PodDisruptionBudget, storage_v1.StorageClass, storage_v1.CSINode)  # fmt: skip


def resource_of(obj: dict[str, Any]) -> Any:
    return scheme.kind_of(obj["apiVersion"], obj["kind"])


class Recorder:
    def __init__(self, client: RestClient, scheduler: str) -> None:
        self.client = client
        self.scheduler = scheduler

    async def wipe(self) -> None:
        for kind in WIPED:
            row = scheme.resource_of(kind)
            for obj in (await self.client.list(row, "default" if row.namespaced else None)).items:
                meta = obj["metadata"]
                with contextlib.suppress(ApiError):
                    if meta.get("finalizers"):
                        patch = {"metadata": {"finalizers": None}}
                        await self.client.patch(row, meta.get("namespace", ""), meta["name"], patch)
                    await self.client.delete(row, meta.get("namespace", ""), meta["name"], grace_period=0)

    async def build(self, world: dict[str, Any]) -> None:
        await self.wipe()
        for name, value in world.get("priorities", {}).items():
            with contextlib.suppress(ApiError):
                fields = value if isinstance(value, dict) else {"value": value}
                made = {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": name},
                    **fields,
                }
                await self.client.create(made, resource=scheme.resource_of(scheduling_v1.PriorityClass))
        for obj in scheduler_worlds.objects_of(world):
            row = resource_of(obj)
            stored = await self.client.create(obj, resource=row)
            if obj.get("status"):
                meta = stored["metadata"]
                await self.client.patch(
                    row, meta.get("namespace", ""), meta["name"], {"status": obj["status"]}, subresource="status"
                )
        await asyncio.sleep(1.5)
        for obj in scheduler_worlds.objects_of(world):  # the taint of new nodes, not ready yet, is taken away
            if obj["kind"] == "Node":
                spec = {"taints": obj.get("spec", {}).get("taints")}
                await self.client.patch(resource_of(obj), "", obj["metadata"]["name"], {"spec": spec})
        await asyncio.sleep(1)

    async def ask(self, pod: dict[str, Any]) -> dict[str, Any]:
        row = scheme.resource_of(core_v1.Pod)
        pod = orjson.loads(orjson.dumps(pod))
        pod["spec"]["schedulerName"] = self.scheduler
        await self.client.create(pod, resource=row)
        name = pod["metadata"]["name"]
        try:
            for _ in range(80):
                await asyncio.sleep(0.05)
                seen = await self.client.get(row, "default", name)
                if seen["spec"].get("nodeName"):
                    return {"node": seen["spec"]["nodeName"]}
                for condition in seen["status"].get("conditions", []):
                    if condition["type"] == "PodScheduled" and condition["status"] == "False":
                        nominated = seen["status"].get("nominatedNodeName", "")
                        return {"message": condition["message"], "nominated": nominated, "reason": condition["reason"]}
            return {"message": "no answer"}
        finally:
            await self.client.delete(row, "default", name, grace_period=0)
            await asyncio.sleep(0.05)

    async def victims(self) -> list[str]:
        await asyncio.sleep(0.5)
        pods = (await self.client.list(scheme.resource_of(core_v1.Pod), "default")).items
        return sorted(p["metadata"]["name"] for p in pods if p["metadata"].get("deletionTimestamp"))

    async def record(self, world: dict[str, Any]) -> dict[str, Any]:
        await self.build(world)
        answers: dict[str, Any] = {}
        for case, spec in world["cases"].items():
            pod = scheduler_worlds.pod_of("incoming", spec)
            first = await self.ask(pod)
            if "node" in first:
                found = {first["node"]} | {(await self.ask(pod)).get("node", "") for _ in range(TRIES - 1)}
                answers[case] = {"nodes": sorted(found)}
                continue
            answers[case] = {k: v for k, v in first.items() if v}
            if first.get("nominated"):
                answers[case]["victims"] = await self.victims()
                await self.build(world)
        return answers


async def main() -> None:
    scheduler = sys.argv[2] if len(sys.argv) > 2 else "default-scheduler"
    client = RestClient.from_kubeconfig(sys.argv[1], RealClock())
    recorder = Recorder(client, scheduler)
    for path in sorted(HERE.glob("*.world.yaml")):
        name = path.name.split(".")[0]
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        world = yaml.safe_load(path.read_text())
        answers = await recorder.record(world)
        target = HERE / f"{name}.answers.yaml"
        if scheduler == "default-scheduler":
            target.write_text(yaml.safe_dump(answers, sort_keys=False, width=10000))
            print(f"{name}: {len(answers)} answers")
            continue
        known = yaml.safe_load(target.read_text())
        for case, answer in answers.items():
            if answer != known[case]:
                print(f"{name}: {case}\n  recorded {known[case]}\n  now      {answer}")
        print(f"{name}: {sum(answers[c] == known[c] for c in answers)} of {len(answers)} alike")
    await recorder.wipe()


if __name__ == "__main__":
    asyncio.run(main())
