"""DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or not reachable.

Source: "Taint based evictions" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import Pod, Toleration
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
SECONDS = 300


class DefaultTolerationSeconds(Rule):
    name: str = "DefaultTolerationSeconds"
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods"})

    def admit(self, a: Attributes) -> None:
        pod = a.object
        if not isinstance(pod, Pod):
            return
        tolerations = pod.spec.tolerations
        for key in (NOT_READY, UNREACHABLE):
            if not any(_tolerates(t, key) for t in tolerations):
                tolerations.append(
                    Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=SECONDS)
                )


def _tolerates(toleration: Toleration, key: str) -> bool:
    """Whether the pod already says something about the taint (an empty key or effect stands for all)."""
    return toleration.key in (key, None, "") and toleration.effect in ("NoExecute", None, "")
