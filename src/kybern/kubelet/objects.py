"""ConfigMaps and Secrets that pods of this node use: each watched by name, for as long as somebody refers to it.

Used by sync/apply (environment) and volumes (files). A watch of a single object is what the Node authorizer permits.
Promises: `get` answers from a list or watch no older than the first reference; `on_change` is called at once with
the kind, namespace and name of what changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal, cast

from kybern.api.core_v1 import ConfigMap, Pod, Secret
from kybern.client.informer import Informer, Informers
from kybern.kubelet import env
from kybern.kubelet.podkeys import PodUid, containers_of

Kind = Literal["ConfigMap", "Secret"]
Reference = tuple[Kind, str, str]  # kind, namespace, name

SYNC_TIMEOUT = 30.0
_TYPES: dict[Kind, type[Any]] = {"ConfigMap": ConfigMap, "Secret": Secret}


class NotSynced(Exception):
    """The object could not be listed in time."""


def references_of(pod: Pod) -> set[Reference]:
    """All ConfigMaps and Secrets a pod's spec names."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
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
    secrets.update(reference.name or "" for reference in pod.spec.imagePullSecrets)
    space = pod.metadata.namespace
    found: set[Reference] = {("ConfigMap", space, name) for name in config_maps if name}
    return found | {("Secret", space, name) for name in secrets if name}


class ReferencedObjects:
    """One informer an object, counted by the pods that refer to it."""

    def __init__(self, informers: Informers, on_change: Callable[[Iterable[PodUid]], None]) -> None:
        self._informers = informers
        self._on_change = on_change
        self._watched: dict[Reference, Informer[Any]] = {}
        self._users: dict[Reference, set[PodUid]] = {}
        self._of_pod: dict[PodUid, set[Reference]] = {}

    def refer(self, uid: PodUid, references: set[Reference]) -> None:
        """The pod refers to exactly these from now on."""
        before = self._of_pod.get(uid, set())
        for reference in references - before:
            self._users.setdefault(reference, set()).add(uid)
            if reference not in self._watched:
                self._watch(reference)
        for reference in before - references:
            users = self._users.get(reference, set())
            users.discard(uid)
            if not users:
                self._users.pop(reference, None)
                self._informers.stop(self._watched.pop(reference))
        if references:
            self._of_pod[uid] = references
        else:
            self._of_pod.pop(uid, None)

    def release(self, uid: PodUid) -> None:
        self.refer(uid, set())

    def _watch(self, reference: Reference) -> None:
        kind, namespace, name = reference
        informer = self._informers.of(_TYPES[kind], namespace=namespace, field_selector=f"metadata.name={name}")
        self._watched[reference] = informer
        informer.on_change(lambda _old, _new: self._on_change(tuple(self._users.get(reference, ()))))

    async def wait_known(self, references: Iterable[Reference]) -> None:
        """Until all of them were listed. Raises NotSynced after half a minute."""
        for reference in references:
            informer = self._watched.get(reference)
            if informer is None or informer.has_synced:
                continue
            try:
                async with asyncio.timeout(SYNC_TIMEOUT):
                    await informer.wait_synced()
            except TimeoutError:
                kind, namespace, name = reference
                raise NotSynced(
                    f"failed to sync {kind.lower()} cache: timed out waiting for {namespace}/{name}"
                ) from None

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return cast("ConfigMap | None", self._get(("ConfigMap", namespace, name)))

    def secret(self, namespace: str, name: str) -> Secret | None:
        return cast("Secret | None", self._get(("Secret", namespace, name)))

    def _get(self, reference: Reference) -> Any:
        informer = self._watched.get(reference)
        return None if informer is None else informer.get(reference[1], reference[2])
