"""Names of the labels and annotations that tie runtime objects to pods.

Written by sync/apply on what it creates, read back by everyone after a restart of the kubelet. The names are
upstream's, so that either kubelet can take over the other's containers.
"""

from __future__ import annotations

import hashlib

from kybern.api.core_v1 import Container, EphemeralContainer

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
CONTAINER_GRACE = "io.kubernetes.pod.terminationGracePeriod"
POD_GRACE = "io.kubernetes.pod.deletionGracePeriod"
# Ours: what a container was made with, to tell a resize that came while the kubelet was away.
RESOURCES = "kybern.io/container.resources"

# Of pods: where their spec came from.
SOURCE = "kubernetes.io/config.source"
SEEN = "kubernetes.io/config.seen"
CONFIG_HASH = "kubernetes.io/config.hash"
MIRROR = "kubernetes.io/config.mirror"


def container_hash(container: Container | EphemeralContainer) -> str:
    """Changes when a running container must be replaced: of what the API lets change, that is its image."""
    text = f"{container.name}\0{container.image or ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]
