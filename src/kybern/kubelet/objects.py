"""ConfigMaps, Secrets and trust bundles that pods of this node use: each watched for as long as somebody refers to it.

Used by sync/apply (environment) and volumes (files). A watch of a single object is what the Node authorizer permits.
Promises: what is answered was read after the first reference; `on_change` is called at once, with the pods that
refer to what changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from kybern.api.certificates_v1beta1 import ClusterTrustBundle
from kybern.api.core_v1 import ConfigMap, Pod, Secret
from kybern.client.informer import Informer, Informers
from kybern.client.rest import RestClient
from kybern.kubelet import env, waiting
from kybern.kubelet.podkeys import PodUid, containers_of
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

# "TrustBundles" are those of one signer, which is the name of the reference.
Kind = Literal["ConfigMap", "Secret", "ClusterTrustBundle", "TrustBundles"]
Reference = tuple[Kind, str, str]  # kind, namespace, name

SYNC_TIMEOUT = 30.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0
_TYPES: dict[Kind, type[Any]] = {
    "ConfigMap": ConfigMap,
    "Secret": Secret,
    "ClusterTrustBundle": ClusterTrustBundle,
    "TrustBundles": ClusterTrustBundle,
}


class NotSynced(Exception):
    """The object could not be read in time."""


@dataclass(slots=True)
class _Watched:
    """One object somebody refers to."""

    users: set[PodUid] = field(default_factory=set)
    first: Any = None  # as first read, until the watch takes over; None: it does not exist
    is_read: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""
    reading: asyncio.Task[None] | None = None
    informer: Informer[Any] | None = None


def references_of(pod: Pod) -> set[Reference]:
    """All ConfigMaps and Secrets a pod's spec names."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    bundles: set[Reference] = set()
    for _, container in containers_of(pod):
        of_env = env.references(container)
        config_maps |= of_env[0]
        secrets |= of_env[1]
    for volume in pod.spec.volumes:
        if volume.configMap:
            config_maps.add(volume.configMap.name or "")
        if volume.secret:
            secrets.add(volume.secret.secretName or "")
        for source in volume.projected.sources if volume.projected else ():
            if source.configMap:
                config_maps.add(source.configMap.name or "")
            if source.secret:
                secrets.add(source.secret.name or "")
            if source.clusterTrustBundle is not None:
                wanted = source.clusterTrustBundle
                bundles.add(
                    ("ClusterTrustBundle", "", wanted.name)
                    if wanted.name
                    else ("TrustBundles", "", wanted.signerName or "")
                )
    secrets.update(reference.name or "" for reference in pod.spec.imagePullSecrets)
    space = pod.metadata.namespace
    found: set[Reference] = {("ConfigMap", space, name) for name in config_maps if name}
    return found | bundles | {("Secret", space, name) for name in secrets if name}


class ReferencedObjects:
    """One watch an object, counted by the pods that refer to it. `run` owns the tasks of first reads."""

    def __init__(
        self,
        client: RestClient,
        informers: Informers,
        clock: Clock,
        on_change: Callable[[Iterable[PodUid]], None],
    ) -> None:
        self._client = client
        self._informers = informers
        self._clock = clock
        self._on_change = on_change
        self._watched: dict[Reference, _Watched] = {}
        self._of_pod: dict[PodUid, set[Reference]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for reference, watched in self._watched.items():
                    self._start(reference, watched)
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    def refer(self, uid: PodUid, references: set[Reference]) -> None:
        """The pod refers to exactly these from now on."""
        before = self._of_pod.get(uid, set())
        for reference in references - before:
            if reference not in self._watched:
                self._watched[reference] = _Watched()
                self._start(reference, self._watched[reference])
            self._watched[reference].users.add(uid)
        for reference in before - references:
            watched = self._watched[reference]
            watched.users.discard(uid)
            if not watched.users:
                del self._watched[reference]
                if watched.reading is not None:
                    watched.reading.cancel()
                if watched.informer is not None:
                    self._informers.stop(watched.informer)
        if references:
            self._of_pod[uid] = references
        else:
            self._of_pod.pop(uid, None)

    def release(self, uid: PodUid) -> None:
        self.refer(uid, set())

    def _start(self, reference: Reference, watched: _Watched) -> None:
        if self._tasks is not None and watched.reading is None:
            watched.reading = self._tasks.create_task(self._read(reference, watched), name=f"read:{reference}")

    async def _read(self, reference: Reference, watched: _Watched) -> None:
        """Read it, and only then watch it: the authorizer may learn of the pod a moment after us, and a refused
        watch pauses for longer than people like to wait for a pod."""
        kind, namespace, name = reference
        pause = FIRST_PAUSE
        while True:
            try:
                if kind == "TrustBundles":
                    watched.first = (
                        await self._client.list(ClusterTrustBundle, field_selector=_selector(reference))
                    ).items
                else:
                    watched.first = await self._client.get(_TYPES[kind], namespace, name)
            except ApiError as error:
                if not error.is_not_found:
                    watched.problem = str(error)
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
            break
        watched.is_read.set()
        informer = self._informers.of(_TYPES[kind], namespace=namespace, field_selector=_selector(reference))
        watched.informer = informer
        informer.on_change(lambda _old, new: self._tell(watched, new))

    def _tell(self, watched: _Watched, new: Any) -> None:
        first = watched.first
        if not isinstance(first, list):  # a list is told of one by one
            watched.first = None
            first = [first] if first is not None else []
        if new is not None and any(_is_same_revision(known, new) for known in first):
            return  # known from the first read
        self._on_change(tuple(watched.users))

    async def wait_known(self, references: Iterable[Reference]) -> None:
        """Until all of them were read. Raises NotSynced after half a minute."""
        for reference in references:
            watched = self._watched.get(reference)
            if watched is None or watched.is_read.is_set():
                continue
            if not await waiting.wait_for(watched.is_read, SYNC_TIMEOUT, self._clock):
                kind, namespace, name = reference
                raise NotSynced(f"failed to get {kind.lower()} {namespace}/{name}: {watched.problem or 'timed out'}")

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return cast("ConfigMap | None", self._get(("ConfigMap", namespace, name)))

    def secret(self, namespace: str, name: str) -> Secret | None:
        return cast("Secret | None", self._get(("Secret", namespace, name)))

    def trust_bundles(self, name: str, signer: str) -> list[ClusterTrustBundle]:
        """The one of that name, or all of a signer."""
        if name:
            found = cast("ClusterTrustBundle | None", self._get(("ClusterTrustBundle", "", name)))
            return [found] if found is not None else []
        watched = self._watched.get(("TrustBundles", "", signer))
        if watched is None:
            return []
        if watched.informer is not None and watched.informer.has_synced:
            return list(watched.informer.list())
        return list(watched.first or ())

    def _get(self, reference: Reference) -> Any:
        watched = self._watched.get(reference)
        if watched is None:
            return None
        if watched.informer is not None and watched.informer.has_synced:
            return watched.informer.get(reference[1], reference[2])
        return watched.first


def _selector(reference: Reference) -> str:
    kind, _, name = reference
    return f"spec.signerName={name}" if kind == "TrustBundles" else f"metadata.name={name}"


def _is_same_revision(a: Any, b: Any) -> bool:
    return bool(a.metadata.uid == b.metadata.uid and a.metadata.resourceVersion == b.metadata.resourceVersion)
