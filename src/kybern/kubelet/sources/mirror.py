"""Mirror pods: the API's pictures of static pods, so that people see them. Made, replaced and deleted here only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from kybern.api import codec
from kybern.api.core_v1 import Node, Pod, PodStatus
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.client.rest import RestClient
from kybern.kubelet.cri import labels
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

PERIOD = 1.0
log = structlog.get_logger(__name__)


def plan_mirror(pod: Pod, node: Node) -> Pod:
    """What the API gets to see of a static pod."""
    spec = codec.clone(pod).spec
    return Pod(
        metadata=ObjectMeta(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            labels=dict(pod.metadata.labels),
            annotations={**pod.metadata.annotations, labels.MIRROR: pod.metadata.uid},
            ownerReferences=[
                OwnerReference(
                    apiVersion="v1", kind="Node", name=node.metadata.name, uid=node.metadata.uid, controller=True
                )
            ],
        ),
        spec=spec,
        status=PodStatus(),
    )


class Mirrors:
    """Keeps mirror pods in step with static pods."""

    def __init__(
        self,
        client: RestClient,
        clock: Clock,
        static_pods: Callable[[], Sequence[Pod]],
        known: Callable[[], Sequence[Pod]],
        node: Callable[[], Node | None],
    ) -> None:
        """`known`: mirror pods of this node as the API last told."""
        self._client = client
        self._clock = clock
        self._static_pods = static_pods
        self._known = known
        self._node = node

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            node = self._node()
            if node is None:
                continue
            try:
                await self.sync(node)
            except ApiError as error:
                log.warning("could not keep mirror pods", error=str(error))

    async def sync(self, node: Node) -> None:
        """One pass. Raises ApiError."""
        wanted = {(p.metadata.namespace, p.metadata.name): p for p in self._static_pods()}
        known = {(p.metadata.namespace, p.metadata.name): p for p in self._known()}
        for key, mirror in known.items():
            static = wanted.get(key)
            stale = static is None or mirror.metadata.annotations.get(labels.MIRROR) != static.metadata.uid
            if stale or mirror.metadata.deletionTimestamp:
                await self._delete(mirror)
        for key, static in wanted.items():
            if key not in known:
                await self._create(plan_mirror(static, node))

    async def _delete(self, mirror: Pod) -> None:
        try:
            await self._client.delete(
                Pod, mirror.metadata.namespace, mirror.metadata.name, uid=mirror.metadata.uid, grace_period=0
            )
        except ApiError as error:
            if not error.is_not_found and not error.is_conflict:
                raise

    async def _create(self, mirror: Pod) -> None:
        try:
            await self._client.create(mirror)
        except ApiError as error:
            if not error.is_already_exists:
                raise
