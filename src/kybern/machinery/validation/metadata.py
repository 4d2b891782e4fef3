"""ObjectMeta of every kind: names, labels, annotations, owners, finalizers, and what an update may not change."""

from __future__ import annotations

from collections.abc import Sequence

from kybern.api import codec
from kybern.api.meta_v1 import ManagedFieldsEntry, ObjectMeta, OwnerReference
from kybern.api.resource import Resource
from kybern.machinery import names
from kybern.machinery.status import FieldError, forbidden_field, invalid, required, too_long
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Check, Errors
from kybern.pausing import pausing


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
    "certificatesigningrequests.certificates.k8s.io": names.check_path_segment,
    "poddisruptionbudgets.policy": names.check_path_segment,
    "roles.rbac.authorization.k8s.io": names.check_path_segment,
    "clusterroles.rbac.authorization.k8s.io": names.check_path_segment,
    "rolebindings.rbac.authorization.k8s.io": names.check_path_segment,
    "clusterrolebindings.rbac.authorization.k8s.io": names.check_path_segment,
    "ipaddresses.networking.k8s.io": _check_address,
    "clustertrustbundles.certificates.k8s.io": lambda _: (),  # by its signer, with the spec
}

# A prefix is not held to the rule of names here: what comes of it is.
_ANY_PREFIX = frozenset({"replicationcontrollers", "deviceclasses.resource.k8s.io"})
# An update is held to the rule of names again, through generateName: the name itself cannot change.
_NAMED_AGAIN = frozenset(
    {
        "configmaps", "endpoints", "limitranges", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes",
        "pods", "secrets", "serviceaccounts", "controllerrevisions.apps", "jobs.batch",
        "apiservices.apiregistration.k8s.io", "endpointslices.discovery.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", "ipaddresses.networking.k8s.io",
        "runtimeclasses.node.k8s.io", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io",
        "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io", "storageclasses.storage.k8s.io",
        "volumeattachments.storage.k8s.io", "volumeattributesclasses.storage.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)  # fmt: skip
# These may be finalized by a name without a domain, whatever it is.
_ANY_FINALIZER = frozenset(
    {
        "events", "events.events.k8s.io", "apiservices.apiregistration.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io", "leases.coordination.k8s.io", "poddisruptionbudgets.policy",
        "runtimeclasses.node.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)  # fmt: skip
# Where the status is written, finalizers are held to the general rule only.
_ANY_FINALIZER_OF_STATUS = _ANY_FINALIZER | {"cronjobs.batch"}
# A write to the status of these is held to the rule of names, too.
_NAMED_AGAIN_BY_STATUS = frozenset({"volumeattachments.storage.k8s.io"})

STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
# Bytes of names in managedFields. kube-apiserver: the same.
_MAX_MANAGER, _MAX_SUBRESOURCE = 128, 256
# A child of an Event would keep it alive, and events expire.
_NO_OWNERS = (("v1", "Event"), ("events.k8s.io/v1", "Event"))


def name_rule(resource: Resource) -> Check:
    return _NAME_RULES.get(resource.group_resource, names.check_subdomain)


def check(metadata: ObjectMeta, resource: Resource, errors: Errors) -> None:
    """All of it, on create."""
    rule = name_rule(resource)
    if metadata.generateName:
        _check_prefix(metadata.generateName, _prefix_rule if resource.group_resource in _ANY_PREFIX else rule, errors)
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
    check_shared(metadata, errors, any_finalizer=_is_free(resource, _ANY_FINALIZER))


def check_strictly(metadata: ObjectMeta, errors: Errors, *, is_new: bool) -> None:
    """By the rules of most kinds, in a version of a kind that is stored under laxer ones."""
    if is_new:
        rules.check_optional(metadata.name, "metadata.name", names.check_subdomain, errors)
        if metadata.generateName:
            _check_prefix(metadata.generateName, names.check_subdomain, errors)
    if metadata.finalizers:
        _check_finalizers(metadata.finalizers, "metadata.finalizers", errors, any_finalizer=False)


def check_lone(metadata: ObjectMeta, errors: Errors) -> None:
    """Of an object that is no resource, but one face of some."""
    check_strictly(metadata, errors, is_new=True)
    check_shared(metadata, errors, any_finalizer=True)


def _is_free(resource: Resource, exempt: frozenset[str]) -> bool:
    """Custom resources are finalized by whatever their operators say."""
    return not resource.module or resource.group_resource in exempt


def _check_prefix(prefix: str, rule: Check, errors: Errors) -> None:
    for message in rule(names.mask_trailing_dash(prefix)):
        errors.append(invalid("metadata.generateName", prefix, message))


def _prefix_rule(text: str) -> tuple[str, ...]:
    """What any generateName must fit: a path, with something to come."""
    return names.check_path_segment(text + "x")


def _check_manager(entry: ManagedFieldsEntry, path: str, errors: Errors) -> None:
    name = entry.manager or ""
    if len(name) > _MAX_MANAGER or not name.isascii() or not name.isprintable():
        if len(name.encode()) > _MAX_MANAGER:
            errors.append(too_long(f"{path}.manager", _MAX_MANAGER))
        at = next((i for i, c in enumerate(name) if not c.isprintable()), None)
        if at is not None:
            detail = f"invalid character U+{ord(name[at]):04X} (at position {len(name[:at].encode())})"
            errors.append(invalid(f"{path}.manager", name, detail))
    if entry.subresource and len(entry.subresource.encode()) > _MAX_SUBRESOURCE:
        errors.append(too_long(f"{path}.subresource", _MAX_SUBRESOURCE))


def check_shared(metadata: ObjectMeta, errors: Errors, path: str = "metadata", *, any_finalizer: bool = False) -> None:
    """What create and update check alike."""
    if metadata.generation is not None and metadata.generation < 0:
        errors.append(invalid(f"{path}.generation", metadata.generation, "must be greater than or equal to 0"))
    if metadata.labels:
        rules.check_labels(metadata.labels, f"{path}.labels", errors)
    if metadata.annotations:
        rules.check_annotations(metadata.annotations, f"{path}.annotations", errors)
    for index, entry in enumerate(pausing(metadata.managedFields)):
        _check_manager(entry, f"{path}.managedFields[{index}]", errors)
    if metadata.ownerReferences:
        _check_owners(metadata.ownerReferences, f"{path}.ownerReferences", errors)
    if metadata.finalizers:
        _check_finalizers(metadata.finalizers, f"{path}.finalizers", errors, any_finalizer=any_finalizer)


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


def _check_finalizers(finalizers: Sequence[str], path: str, errors: Errors, *, any_finalizer: bool) -> None:
    for finalizer in pausing(finalizers):
        for message in names.check_qualified(finalizer):
            errors.append(invalid(path, finalizer, message))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.append(invalid(path, list(finalizers), "finalizer orphan and foregroundDeletion cannot be both set"))
    if any_finalizer:
        return
    for i, finalizer in enumerate(pausing(finalizers)):
        if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(f"{path}[{i}]", finalizer, message))


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def check_update(
    metadata: ObjectMeta, old: ObjectMeta, resource: Resource, errors: Errors, *, of_status: bool = False
) -> None:
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
    name = resource.group_resource
    if metadata.generateName:
        again = name in (_NAMED_AGAIN_BY_STATUS if of_status else _NAMED_AGAIN)
        _check_prefix(metadata.generateName, _prefix_rule, errors)
        if again:
            _check_prefix(metadata.generateName, name_rule(resource), errors)
    exempt = _ANY_FINALIZER_OF_STATUS if of_status else _ANY_FINALIZER
    check_shared(metadata, errors, any_finalizer=_is_free(resource, exempt))


def check_template(metadata: ObjectMeta, path: str, errors: Errors) -> None:
    """The metadata of a pod template: labels and annotations; nothing else of it reaches a pod."""
    rules.check_labels(metadata.labels, f"{path}.labels", errors)
    rules.check_annotations(metadata.annotations, f"{path}.annotations", errors)


__all__ = ["FieldError", "check", "check_shared", "check_template", "check_update", "name_rule"]
