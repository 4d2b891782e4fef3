"""Carry pod statuses to the API server: the newest one of each pod, as a patch of what differs.

Fed by pod_workers (`offer`), which also wait here (`wait_sent`) before they let go of a deleted pod. Writes of one
pod never overtake each other; statuses offered while one is on its way are coalesced.
Promises: an offered status reaches the server unless a newer one of the same pod does, or the pod is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from kybern.api import codec
from kybern.api.core_v1 import Pod, PodStatus
from kybern.client.rest import RestClient
from kybern.kubelet.podkeys import PodUid
from kybern.kubelet.status.generate import OWN_CONDITIONS
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
CONCURRENT = 16
# What the kubelet says of a pod. Other fields of the status are others' to write.
_FIELDS = (
    "allocatedResources",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "qosClass",
    "reason",
    "resources",
    "startTime",
)
_BY_IP = ("hostIPs", "podIPs")

log = structlog.get_logger(__name__)


def plan_patch(old: PodStatus, new: PodStatus, own: frozenset[str] = OWN_CONDITIONS) -> dict[str, Any]:
    """The strategic merge patch of `status` that makes `old` what the kubelet wants. Empty: nothing to say."""
    before, after = codec.to_json(old), codec.to_json(new)
    patch: dict[str, Any] = {name: after.get(name) for name in _FIELDS if before.get(name) != after.get(name)}
    for name in _BY_IP:
        was, now = before.get(name, []), after.get(name, [])
        if was != now:
            gone = [{"ip": item["ip"], "$patch": "delete"} for item in was if item not in now]
            patch[name] = [*gone, *now]
    conditions = _condition_changes(before.get("conditions", []), after.get("conditions", []), own)
    if conditions:
        patch["conditions"] = conditions
    return patch


def _condition_changes(
    before: list[dict[str, Any]], after: list[dict[str, Any]], own: frozenset[str]
) -> list[dict[str, Any]]:
    known = {c["type"]: c for c in before}
    wanted = {c["type"]: c for c in after}
    changes = []
    for kind, condition in wanted.items():
        if known.get(kind) != condition:
            # What is absent now must be told: a merge would keep it.
            missing = {field: None for field in known.get(kind, {}) if field not in condition}
            changes.append({**condition, **missing})
    changes += [{"type": kind, "$patch": "delete"} for kind in known if kind in own and kind not in wanted]
    return changes


class StatusSender:
    """Owns the statuses on their way."""

    def __init__(
        self,
        client: RestClient,
        clock: Clock,
        current: Callable[[str, str], Pod | None],
        observe: Callable[[Pod], None],
    ) -> None:
        """`current`: the pod as the API last told; `observe`: told what the server answered."""
        self._client = client
        self._clock = clock
        self._current = current
        self._observe = observe
        self._pending: dict[PodUid, tuple[str, str, PodStatus]] = {}
        self._sending: set[PodUid] = set()
        self._news = asyncio.Event()
        self._idle: dict[PodUid, asyncio.Event] = {}

    def offer(self, uid: PodUid, namespace: str, name: str, status: PodStatus) -> None:
        """Send this, unless a newer one comes first. `uid` is the API object's."""
        self._pending[uid] = (namespace, name, status)
        self._idle.setdefault(uid, asyncio.Event()).clear()
        self._news.set()

    async def wait_sent(self, uid: PodUid) -> None:
        """Until nothing of this pod is on its way."""
        idle = self._idle.get(uid)
        if idle is not None:
            await idle.wait()

    def forget(self, uid: PodUid) -> None:
        """The pod is gone."""
        self._pending.pop(uid, None)
        if uid not in self._sending and (idle := self._idle.pop(uid, None)):
            idle.set()

    async def run(self) -> None:
        """Send what is offered, until cancelled."""
        slots = asyncio.Semaphore(CONCURRENT)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._news.wait()
                self._news.clear()
                for uid in [u for u in self._pending if u not in self._sending]:
                    self._sending.add(uid)
                    tasks.create_task(self._send_all(uid, slots), name=f"status:{uid}")

    async def _send_all(self, uid: PodUid, slots: asyncio.Semaphore) -> None:
        """Until nothing newer of this pod is pending."""
        pause = FIRST_PAUSE
        try:
            while (offered := self._pending.pop(uid, None)) is not None:
                async with slots:
                    done = await self._send(uid, *offered)
                if done:
                    pause = FIRST_PAUSE
                    continue
                self._pending.setdefault(uid, offered)
                await self._clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._sending.discard(uid)
            if uid not in self._pending and (idle := self._idle.pop(uid, None)):
                idle.set()

    async def _send(self, uid: PodUid, namespace: str, name: str, status: PodStatus) -> bool:
        """False: try again later."""
        try:
            pod = self._current(namespace, name)
            if pod is None or pod.metadata.uid != uid:
                return True  # gone, or a namesake
            patch = plan_patch(pod.status, status)
            if not patch:
                return True
            body = {"metadata": {"uid": uid}, "status": patch}
            answer = await self._client.patch(
                Pod,
                namespace,
                name,
                body,
                patch_type="application/strategic-merge-patch+json",
                subresource="status",
            )
        except ApiError as error:
            if error.is_not_found or error.is_conflict:
                return error.is_not_found or await self._is_gone(uid, namespace, name)
            log.warning("could not send a pod's status", pod=f"{namespace}/{name}", error=str(error))
            # What the server will never take (an invalid status) must not block what comes after.
            return error.code in (400, 403, 422)
        self._observe(answer)
        return True

    async def _is_gone(self, uid: PodUid, namespace: str, name: str) -> bool:
        """After a conflict: is it another pod now? Refreshes what is known of it."""
        try:
            pod = await self._client.get(Pod, namespace, name)
        except ApiError as error:
            return error.code in (403, 404)  # a node may not ask for pods that are not its own, or not there
        self._observe(pod)
        return pod.metadata.uid != uid
