"""ImageLocality: nodes that have the pod's images already, the more bytes the better."""

from __future__ import annotations

import numpy as np

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import MOST_POINTS, Points, Rows
from kybern.scheduler.pod_info import PodInfo

MEBI = 1024 * 1024
LEAST = 23 * MEBI  # below it, having the images is no advantage
MOST = 1000 * MEBI  # for each container


def _tagged(image: str) -> str:
    """An image's name as nodes report it. As upstream, a short name does not find `docker.io/library/...`."""
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


@contract.score("ImageLocality")
def image_locality(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    snapshot = cluster.snapshot
    spec = pod.pod.spec
    wanted = [c.image for c in (*spec.initContainers, *spec.containers) if c.image]
    wanted += [v.image.reference for v in spec.volumes if v.image is not None and v.image.reference]
    total = np.zeros(len(snapshot), dtype=np.float64)
    for image in wanted:
        holders = snapshot.images.get(_tagged(image))
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
