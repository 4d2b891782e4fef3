"""Which ReplicaSet is the deployment's newest, what revision each has, and how a new one is made. Pure.

Read by plan. The numbers live in annotations that kubectl reads (`rollout history`, `rollout undo`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from kybern.api import codec
from kybern.api.apps_v1 import Deployment, ReplicaSet, ReplicaSetSpec
from kybern.api.core_v1 import PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers import ownership
from kybern.controllers.deployment import rollout

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
# Annotations of a deployment that mean something else, or nothing, on its ReplicaSets.
_OWN = frozenset(
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        HISTORY,
        DESIRED,
        MAXIMUM,
    )
)
HISTORY_LIMIT = 2000  # characters
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words by accident


def template_hash(template: PodTemplateSpec, collisions: int | None) -> str:
    """The name of a template: stable, ten characters that may end a DNS label."""
    digest = hashlib.sha256(codec.encode(template))
    if collisions is not None:
        digest.update(collisions.to_bytes(8, "big"))
    number = int.from_bytes(digest.digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def _bare(template: PodTemplateSpec) -> PodTemplateSpec:
    if HASH not in template.metadata.labels:
        return template
    bare = codec.clone(template)
    del bare.metadata.labels[HASH]
    return bare


def by_age(sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """Oldest first."""
    return sorted(sets, key=lambda rs: (rs.metadata.creationTimestamp or "", rs.metadata.name))


def find_new(deployment: Deployment, sets: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet whose template is the deployment's (older tools could make two)."""
    wanted = _bare(deployment.spec.template)
    for rs in by_age(sets):
        if rs.spec.template is not None and _bare(rs.spec.template) == wanted:
            return rs
    return None


def revision_of(obj: Deployment | ReplicaSet) -> int:
    text = obj.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def next_revision(old: Iterable[ReplicaSet]) -> int:
    return max((revision_of(rs) for rs in old), default=0) + 1


def annotate(deployment: Deployment, rs: ReplicaSet, revision: int, *, is_new: bool) -> None:
    """Write the annotations of the newest ReplicaSet into `rs`: those of the deployment, and its revision."""
    annotations = rs.metadata.annotations
    for name, value in deployment.metadata.annotations.items():
        if name not in _OWN:
            annotations[name] = value
    had = revision_of(rs)
    if had < revision:
        annotations[REVISION] = str(revision)
        if not is_new and had:
            annotations[HISTORY] = _longer_history(annotations.get(HISTORY, ""), had)
    if is_new:
        annotate_size(deployment, rs)


def _longer_history(history: str, revision: int) -> str:
    revisions = [r for r in history.split(",") if r]
    if str(revision) not in revisions:
        revisions.append(str(revision))
    while len(",".join(revisions)) > HISTORY_LIMIT:
        del revisions[0]
    return ",".join(revisions)


def annotate_size(deployment: Deployment, rs: ReplicaSet) -> bool:
    """Write down which size the deployment had when `rs` was scaled; whether that changed anything."""
    replicas = rollout.replicas_of(deployment)
    wanted = {DESIRED: str(replicas), MAXIMUM: str(replicas + rollout.max_surge(deployment))}
    changed = any(rs.metadata.annotations.get(name) != value for name, value in wanted.items())
    rs.metadata.annotations.update(wanted)
    return changed


def desired_of(rs: ReplicaSet) -> int | None:
    return _number(rs.metadata.annotations.get(DESIRED))


def maximum_of(rs: ReplicaSet) -> int | None:
    return _number(rs.metadata.annotations.get(MAXIMUM))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def make(deployment: Deployment, old: Sequence[ReplicaSet]) -> ReplicaSet:
    """The ReplicaSet for the deployment's present template, sized for the first step of its rollout."""
    template = codec.clone(deployment.spec.template)
    suffix = template_hash(deployment.spec.template, deployment.status.collisionCount)
    template.metadata.labels[HASH] = suffix
    assert deployment.spec.selector is not None
    selector: LabelSelector = codec.clone(deployment.spec.selector)
    selector.matchLabels[HASH] = suffix
    rs = ReplicaSet(
        metadata=ObjectMeta(
            name=f"{deployment.metadata.name}-{suffix}",
            namespace=deployment.metadata.namespace,
            labels=dict(template.metadata.labels),
            ownerReferences=[ownership.reference_to(deployment)],
        ),
        spec=ReplicaSetSpec(
            replicas=0,
            minReadySeconds=deployment.spec.minReadySeconds,
            selector=selector,
            template=template,
        ),
    )
    rs.spec.replicas = rollout.size_of_new(deployment, rs, [*old, rs])
    annotate(deployment, rs, next_revision(old), is_new=True)
    return rs
