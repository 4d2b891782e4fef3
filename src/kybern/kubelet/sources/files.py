"""Static pods: manifests in a folder of the node, each a pod that runs without the API server.

Polled by `run`; changes go to pod_workers. Their pictures in the API (mirror pods) are kept by mirror.
Source: "Create static Pods" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import yaml
from msgspec import ValidationError, convert

from kybern.api import codec, scalars
from kybern.api.core_v1 import Pod, Toleration
from kybern.kubelet.cri import labels
from kybern.machinery import defaults, validation
from kybern.machinery.clock import Clock

PERIOD = 1.0
log = structlog.get_logger(__name__)


class BadManifest(Exception):
    """A file that is no valid pod."""


def parse(text: bytes, path: str, node_name: str) -> Pod:
    """The pod of a manifest, named after the node. Raises BadManifest."""
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise BadManifest(f"{path}: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        raise BadManifest(f"{path}: not a Pod")
    try:
        pod, _ = codec.from_json(Pod, _plain(document))
    except (ValidationError, ValueError, TypeError) as error:
        raise BadManifest(f"{path}: {error}") from None
    return _complete(pod, text, path, node_name)


def _plain(value: Any) -> Any:
    """YAML's dates are text in JSON."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else convert(str(value), str)


def _complete(pod: Pod, text: bytes, path: str, node_name: str) -> Pod:
    meta = pod.metadata
    if not meta.name:
        raise BadManifest(f"{path}: metadata.name is required")
    meta.name = f"{meta.name}-{node_name}".lower()
    meta.namespace = meta.namespace or "default"
    digest = hashlib.sha256(node_name.encode() + b"\0" + path.encode() + b"\0" + text).hexdigest()[:32]
    meta.uid = meta.uid or digest
    meta.annotations[labels.CONFIG_HASH] = meta.uid
    meta.annotations[labels.SOURCE] = "file"
    pod.spec.nodeName = node_name
    pod.status.phase = "Pending"
    # Whatever is wrong with the node, its static pods stay.
    pod.spec.tolerations.append(Toleration(operator="Exists", effect="NoExecute"))
    defaults.apply(pod)
    problems = validation.validate_create(pod)
    if problems:
        raise BadManifest(f"{path}: {'; '.join(str(p) for p in problems)}")
    return pod


class StaticPods:
    """The folder's pods."""

    def __init__(
        self,
        folder: Path,
        node_name: str,
        clock: Clock,
        on_update: Callable[[Pod], None],
        on_remove: Callable[[Pod], None],
        period: float = PERIOD,
    ) -> None:
        self._folder = folder
        self._node_name = node_name
        self._clock = clock
        self._on_update = on_update
        self._on_remove = on_remove
        self._period = period
        self._files: dict[str, tuple[tuple[int, int, int], Pod | None]] = {}
        self.has_synced = asyncio.Event()

    @property
    def pods(self) -> list[Pod]:
        return [pod for _, pod in self._files.values() if pod is not None]

    async def run(self) -> None:
        while True:
            await self.scan()
            self.has_synced.set()
            await self._clock.sleep(self._period)

    async def scan(self) -> None:
        """One look at the folder."""
        found = await asyncio.to_thread(self._stat)
        for path in [p for p in self._files if p not in found]:
            _, pod = self._files.pop(path)
            if pod is not None:
                self._on_remove(pod)
        for path, stamp in found.items():
            known = self._files.get(path)
            if known is not None and known[0] == stamp:
                continue
            await self._load(path, stamp, known[1] if known else None)

    def _stat(self) -> dict[str, tuple[int, int, int]]:
        found: dict[str, tuple[int, int, int]] = {}
        if not self._folder.is_dir():
            return found
        for entry in sorted(self._folder.iterdir()):
            if entry.name.startswith(".") or not entry.is_file():
                continue
            facts = entry.stat()
            found[str(entry)] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        return found

    async def _load(self, path: str, stamp: tuple[int, int, int], old: Pod | None) -> None:
        pod: Pod | None = None
        try:
            text = await asyncio.to_thread(Path(path).read_bytes)
            pod = parse(text, path, self._node_name)
            pod.metadata.annotations[labels.SEEN] = scalars.render_micro_time(self._clock.now())
        except (BadManifest, OSError) as error:
            log.warning("a static pod's manifest is not usable", error=str(error))
        if old is not None and (pod is None or pod.metadata.uid != old.metadata.uid):
            self._on_remove(old)
        self._files[path] = (stamp, pod)
        if pod is not None:
            self._on_update(pod)
