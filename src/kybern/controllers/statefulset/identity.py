"""Who a StatefulSet's pod is: its ordinal, name, labels and claims. Pure."""

from __future__ import annotations

import re

from kybern.api import codec
from kybern.api.apps_v1 import StatefulSet
from kybern.api.core_v1 import PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume
from kybern.api.meta_v1 import OwnerReference
from kybern.controllers import history, ownership, pods

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"(.*)-([0-9]{1,9})", re.DOTALL)


def ordinal_of(owner: StatefulSet, pod: Pod) -> int | None:
    """The number in its name, if that is one of this set's."""
    match = _ORDINAL.fullmatch(pod.metadata.name)
    if match is None or match.group(1) != owner.metadata.name:
        return None
    return int(match.group(2))


def start_of(owner: StatefulSet) -> int:
    return (owner.spec.ordinals.start or 0) if owner.spec.ordinals is not None else 0


def replicas_of(owner: StatefulSet) -> int:
    return 1 if owner.spec.replicas is None else owner.spec.replicas


def ordinals_of(owner: StatefulSet) -> range:
    return range(start_of(owner), start_of(owner) + replicas_of(owner))


def claim_name(owner: StatefulSet, template: PersistentVolumeClaim, ordinal: int) -> str:
    return f"{template.metadata.name}-{owner.metadata.name}-{ordinal}"


def claims_of(owner: StatefulSet, ordinal: int) -> list[PersistentVolumeClaim]:
    """The claims of a pod, as they are to be made."""
    labels = dict(owner.spec.selector.matchLabels) if owner.spec.selector is not None else {}
    made = []
    for template in owner.spec.volumeClaimTemplates:
        claim = codec.clone(template)
        claim.metadata.name = claim_name(owner, template, ordinal)
        claim.metadata.namespace = owner.metadata.namespace
        claim.metadata.labels = claim.metadata.labels | labels
        claim.status = type(claim.status)()
        made.append(claim)
    return made


def make_pod(owner: StatefulSet, template: PodTemplateSpec, ordinal: int, hash_: str) -> Pod:
    """The pod of an ordinal, of the revision that `template` and `hash_` are."""
    pod = pods.from_template(template, owner, name=f"{owner.metadata.name}-{ordinal}")
    pod.metadata.labels[history.HASH] = hash_
    mend(owner, pod, ordinal)
    pod.spec.hostname = pod.metadata.name
    pod.spec.subdomain = owner.spec.serviceName or None
    return pod


def mend(owner: StatefulSet, pod: Pod, ordinal: int) -> None:
    """Give a pod the labels and claims of its identity."""
    pod.metadata.labels[POD_NAME] = pod.metadata.name
    pod.metadata.labels[POD_INDEX] = str(ordinal)
    own = {template.metadata.name for template in owner.spec.volumeClaimTemplates}
    volumes = [
        Volume(
            name=template.metadata.name,
            persistentVolumeClaim=PersistentVolumeClaimVolumeSource(claimName=claim_name(owner, template, ordinal)),
        )
        for template in owner.spec.volumeClaimTemplates
    ]
    pod.spec.volumes = [*volumes, *(v for v in pod.spec.volumes if v.name not in own)]


def is_itself(owner: StatefulSet, pod: Pod) -> bool:
    """Labels still tell who it is (people can change them)."""
    return pod.metadata.labels.get(POD_NAME) == pod.metadata.name


def plan_claim_owners(
    owner: StatefulSet, claim: PersistentVolumeClaim, pod: Pod | None, *, condemned: bool
) -> list[OwnerReference] | None:
    """The owners a claim should have by the retention policy; None if it has them.

    A claim that goes with the set is owned by the set; one that goes when its pod is scaled away, by that pod. What
    another controller holds is not ours to give away.
    """
    holder = ownership.controller_of(claim)
    if holder is not None and holder.uid != owner.metadata.uid and holder.kind != "Pod":
        return None
    policy = owner.spec.persistentVolumeClaimRetentionPolicy
    deleted = (policy.whenDeleted if policy is not None else None) == "Delete"
    scaled = (policy.whenScaled if policy is not None else None) == "Delete"
    refs = list(claim.metadata.ownerReferences)
    kept = [
        r for r in refs if r.uid != owner.metadata.uid and not (r.kind == "Pod" and r.name == _pod_name(owner, claim))
    ]
    wanted = list(kept)
    if deleted and not (scaled and condemned):
        reference = ownership.reference_to(owner)
        wanted.append(reference)
    if scaled and condemned and pod is not None:
        wanted.append(OwnerReference(apiVersion="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid))
    return None if wanted == refs else wanted


def is_leaving(owner: StatefulSet, claim: PersistentVolumeClaim) -> bool:
    """Deleted, or about to be with an earlier pod of its ordinal: a new pod must not start on it."""
    if claim.metadata.deletionTimestamp is not None:
        return True
    name = _pod_name(owner, claim)
    return any(r.kind == "Pod" and r.name == name for r in claim.metadata.ownerReferences)


def _pod_name(owner: StatefulSet, claim: PersistentVolumeClaim) -> str:
    match = _ORDINAL.fullmatch(claim.metadata.name)
    return f"{owner.metadata.name}-{match.group(2)}" if match is not None else ""
