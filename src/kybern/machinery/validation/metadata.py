"""ObjectMeta of every kind: names, labels, annotations, owners, finalizers, and what an update may not change."""

from __future__ import annotations

from collections.abc import Sequence

from kybern.api import codec
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.api.resource import Resource
from kybern.machinery import names
from kybern.machinery.status import FieldError, forbidden_field, invalid, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Check, Errors


def _check_address(text: str) -> tuple[str, ...]:
    """The canonical text of an IP address."""
    fault = rules.canonical_ip_fault(text)
    return (fault,) if fault else ()


# Every other kind is named by a DNS subdomain.
_NAME_RULES: dict[str, Check] = {
    "namespaces": names.check_label,
    "services": names.check_label,
    "statefulsets.apps": names.check_label,
    "events": names.check_path_segment,
    "apiservices.apiregistration.k8s.io": names.check_path_segment,
    "certificatesigningrequests.certificates.k8s.io": lambda _: (),
    "poddisruptionbudgets.policy": names.check_path_segment,
    "roles.rbac.authorization.k8s.io": names.check_path_segment,
    "clusterroles.rbac.authorization.k8s.io": names.check_path_segment,
    "rolebindings.rbac.authorization.k8s.io": names.check_path_segment,
    "clusterrolebindings.rbac.authorization.k8s.io": names.check_path_segment,
    "ipaddresses.networking.k8s.io": _check_address,
    # "signer:domain:name"; the parts are checked with the spec.
    "clustertrustbundles.certificates.k8s.io": names.check_path_segment,
}

_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
# A child of an Event would keep it alive, and events expire.
_NO_OWNERS = (("v1", "Event"), ("events.k8s.io/v1", "Event"))


def name_rule(resource: Resource) -> Check:
    return _NAME_RULES.get(resource.group_resource, names.check_subdomain)


def check(metadata: ObjectMeta, resource: Resource, errors: Errors) -> None:
    """All of it, on create."""
    rule = name_rule(resource)
    if metadata.generateName:
        for message in rule(names.mask_trailing_dash(metadata.generateName)):
            errors.append(invalid("metadata.generateName", metadata.generateName, message))
    if not metadata.name:
        if not metadata.generateName:
            errors.append(required("metadata.name", "name or generateName is required"))
    else:
        for message in rule(metadata.name):
            errors.append(invalid("metadata.name", metadata.name, message))
    if resource.namespaced:
        if not metadata.namespace:
            errors.append(required("metadata.namespace"))
        else:
            for message in names.check_label(metadata.namespace):
                errors.append(invalid("metadata.namespace", metadata.namespace, message))
    elif metadata.namespace:
        errors.append(forbidden_field("metadata.namespace", "not allowed on this type"))
    check_shared(metadata, errors)


def check_shared(metadata: ObjectMeta, errors: Errors, path: str = "metadata") -> None:
    """What create and update check alike."""
    if metadata.generation is not None and metadata.generation < 0:
        errors.append(invalid(f"{path}.generation", metadata.generation, "must be greater than or equal to 0"))
    if metadata.labels:
        rules.check_labels(metadata.labels, f"{path}.labels", errors)
    if metadata.annotations:
        rules.check_annotations(metadata.annotations, f"{path}.annotations", errors)
    if metadata.ownerReferences:
        _check_owners(metadata.ownerReferences, f"{path}.ownerReferences", errors)
    if metadata.finalizers:
        _check_finalizers(metadata.finalizers, f"{path}.finalizers", errors)


def _check_owners(owners: Sequence[OwnerReference], path: str, errors: Errors) -> None:
    controller: OwnerReference | None = None
    for owner in owners:
        _check_owner(owner, path, errors)
        if owner.controller:
            if controller is not None:
                errors.append(
                    invalid(
                        path,
                        list(owners),
                        "Only one reference can have Controller set to true. Found "
                        f'"true" in references for {controller.kind}/{controller.name} and {owner.kind}/{owner.name}',
                    )
                )
            else:
                controller = owner


def _check_owner(owner: OwnerReference, path: str, errors: Errors) -> None:
    group, _, version = owner.apiVersion.rpartition("/")
    if not version or "/" in group:
        errors.append(invalid(f"{path}.apiVersion", owner.apiVersion, "version must not be empty"))
    for field in ("kind", "name", "uid"):
        if not getattr(owner, field):
            errors.append(invalid(f"{path}.{field}", "", "must not be empty"))
    if (owner.apiVersion, owner.kind) in _NO_OWNERS:
        shown = codec.to_json(owner)
        errors.append(invalid(path, shown, f"{group}/{version}, Kind={owner.kind} is disallowed from being an owner"))


def _check_finalizers(finalizers: Sequence[str], path: str, errors: Errors) -> None:
    for finalizer in finalizers:
        for message in names.check_qualified(finalizer):
            errors.append(invalid(path, finalizer, message))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.append(invalid(path, list(finalizers), "finalizer orphan and foregroundDeletion cannot be both set"))
    for i, finalizer in enumerate(finalizers):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(f"{path}[{i}]", finalizer, message))


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def check_update(metadata: ObjectMeta, old: ObjectMeta, resource: Resource, errors: Errors) -> None:
    """What stays, and all that a new object is checked for but its name."""
    if old.deletionTimestamp is not None and metadata.finalizers:
        added = sorted(set(metadata.finalizers) - set(old.finalizers))
        if added:
            shown = ", ".join(f'"{f}"' for f in added)
            errors.append(
                forbidden_field(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted, "
                    f"found new finalizers []string{{{shown}}}",
                )
            )
    for field in _FIXED:
        value = getattr(metadata, field)
        if value != getattr(old, field):
            errors.append(invalid(f"metadata.{field}", value, rules.IMMUTABLE))
    if metadata.generation is not None and metadata.generation < (old.generation or 0):
        errors.append(invalid("metadata.generation", metadata.generation, "must not be decremented"))
    check_shared(metadata, errors)


def check_template(metadata: ObjectMeta, path: str, errors: Errors) -> None:
    """The metadata of a pod template: labels and annotations; nothing else of it reaches a pod."""
    rules.check_labels(metadata.labels, f"{path}.labels", errors)
    rules.check_annotations(metadata.annotations, f"{path}.annotations", errors)


__all__ = ["FieldError", "check", "check_shared", "check_template", "check_update", "name_rule"]
