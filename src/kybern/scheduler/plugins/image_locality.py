"""ImageLocality: nodes that have the pod's images already, the more bytes the better."""

from __future__ import annotations

import numpy as np

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.objects import PodInfo
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import MOST_POINTS, Points, Rows

MEBI = 1024 * 1024
LEAST = 23 * MEBI  # below it, having the images is no advantage
MOST = 1000 * MEBI  # for each container


def _names(image: str) -> tuple[str, ...]:
    """How nodes may report an image."""
    tagged = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
    return tuple(dict.fromkeys((tagged, image, *_full(tagged))))


def _full(image: str) -> tuple[str, ...]:
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return ()
    return (f"docker.io/{image}",) if slash else (f"docker.io/library/{image}",)


@contract.score("ImageLocality")
def image_locality(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    snapshot = cluster.snapshot
    spec = pod.pod.spec
    wanted = [c.image for c in (*spec.initContainers, *spec.containers) if c.image]
    wanted += [v.image.reference for v in spec.volumes if v.image is not None and v.image.reference]
    total = np.zeros(len(snapshot), dtype=np.float64)
    for image in wanted:
        holders = next((snapshot.images[n] for n in _names(image) if n in snapshot.images), None)
        if holders is None:
            continue
        # An image few nodes have counts less, or all pods would gather on them.
        share = len(holders) / max(len(snapshot), 1)
        for name, size in holders.items():
            row = snapshot.rows.get(name)
            if row is not None:
                total[row] += np.floor(size * share)
    if not total.any():
        return None
    most = MOST * max(len(wanted), 1)
    points: Points = np.floor((np.clip(total[rows], LEAST, most) - LEAST) * MOST_POINTS / (most - LEAST))
    return points
