"""PersistentVolumes and claims, storage.k8s.io."""

from __future__ import annotations

import difflib
import posixpath
from typing import Any

import msgspec

from kybern.api import codec, storage_v1beta1
from kybern.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    TopologySelectorTerm,
    VolumeNodeAffinity,
)
from kybern.api.scalars import Quantity
from kybern.api.storage_v1 import (
    CSIDriver,
    CSINode,
    CSIStorageCapacity,
    StorageClass,
    VolumeAttachment,
    VolumeAttributesClass,
)
from kybern.machinery import names, quantity
from kybern.machinery.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from kybern.machinery.validation import claims, paths, resources, rules, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.machinery.validation.volume_sources import SOURCES, check_driver
from kybern.pausing import pausing

_RECLAIM = ("Delete", "Recycle", "Retain")


def _diff(new: Any, old: Any, *, context: int = 2) -> str:
    def lines(value: Any) -> list[str]:
        return msgspec.json.format(codec.encode(value), indent=1).decode().splitlines()

    return "\n".join(list(difflib.unified_diff(lines(old), lines(new), lineterm="", n=context))[2:]) + "\n"


# -- claims ------------------------------------------------------------------------------------------------------


def _check_claim(claim: PersistentVolumeClaim, errors: Errors) -> None:
    claims.check_spec(claim.spec, "spec", errors)


_CLAIM_FIXED = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def _as_upstream_shows(spec: PersistentVolumeClaimSpec) -> dict[str, Any]:
    """A claim in the words of upstream's internal version, which knows no absent fields."""
    source, reference = spec.dataSource, spec.dataSourceRef
    named = {
        name: None if found is None else {"APIGroup": found.apiGroup, "Kind": found.kind, "Name": found.name}
        for name, found in (("DataSource", source), ("DataSourceRef", reference))
    }
    if reference is not None:
        named["DataSourceRef"] = {**(named["DataSourceRef"] or {}), "Namespace": reference.namespace}
    return {
        "AccessModes": spec.accessModes or None,
        "Selector": codec.to_json(spec.selector) if spec.selector is not None else None,
        "Resources": {
            "Limits": dict(sorted(spec.resources.limits.items())) or None,
            "Requests": dict(sorted(spec.resources.requests.items())) or None,
        },
        "VolumeName": spec.volumeName or "",
        "StorageClassName": spec.storageClassName,
        "VolumeMode": spec.volumeMode,
        **named,
        "VolumeAttributesClassName": spec.volumeAttributesClassName,
    }


def _update_claim(claim: PersistentVolumeClaim, old: PersistentVolumeClaim, errors: Errors) -> None:
    _check_claim(claim, errors)
    spec, before = claim.spec, old.spec
    frozen = codec.clone(spec)
    if not before.volumeName and spec.volumeName:
        frozen.volumeName = before.volumeName  # binding
    if before.storageClassName is None:
        frozen.storageClassName = None  # a default class set later
    if old.status.phase == "Bound":
        frozen.volumeAttributesClassName = before.volumeAttributesClassName
        if "storage" in before.resources.requests and "storage" in spec.resources.requests:
            frozen.resources.requests["storage"] = before.resources.requests["storage"]
    if frozen != before:
        difference = _diff(_as_upstream_shows(frozen), _as_upstream_shows(before), context=3)
        errors.append(forbidden_field("spec", f"{_CLAIM_FIXED}\n{difference}"))
    _check_size(claim, old, errors)
    if old.status.currentVolumeAttributesClassName is not None and not spec.volumeAttributesClassName:
        what = "nil" if spec.volumeAttributesClassName is None else "empty string"
        told = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        errors.append(forbidden_field("spec.volumeAttributesClassName", told))
    if spec.volumeMode != before.volumeMode:
        errors.append(invalid("volumeMode", spec.volumeMode, rules.IMMUTABLE))


def _check_size(claim: PersistentVolumeClaim, old: PersistentVolumeClaim, errors: Errors) -> None:
    """A claim may grow; after a failed expansion it may shrink to no less than what is there."""
    wanted, before = (each.spec.resources.requests.get("storage", "0") for each in (claim, old))
    actual = old.status.capacity.get("storage", "0")
    if quantity.compare(wanted, before) < 0 and quantity.compare(wanted, actual) <= 0:
        errors.append(forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity"))


def _status_of_claim(claim: PersistentVolumeClaim, old: PersistentVolumeClaim, errors: Errors) -> None:
    _check_resizing(claim, errors)
    for field in ("capacity", "allocatedResources"):
        for name, amount in getattr(claim.status, field).items():
            shown = _wrapped(quantity.value(amount))
            if shown < 0:
                told = f"Invalid value: {shown}: must be a valid resource quantity"
                errors.append(FieldError("FieldValueInvalid", f"status.{field}[{name}]", told))


def _wrapped(whole: int) -> int:
    """As an int64 has it: what is beyond the largest is the smallest."""
    return whole if whole < 2**63 else -(2**63)


_RESIZE_STATES = (
    "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible",
    "NodeResizePending",
)  # fmt: skip


def _check_resizing(claim: PersistentVolumeClaim, errors: Errors) -> None:
    for name, state in claim.status.allocatedResourceStatuses.items():
        where = "status.allocatedResourceStatuses"
        rules.check_rule(name, where, names.check_qualified, errors)
        _check_resizable(name, where, errors)
        if state not in _RESIZE_STATES:
            errors.append(not_supported(where, name, _RESIZE_STATES))
    for name in claim.status.allocatedResources:
        rules.check_rule(name, "status.allocatedResources", names.check_qualified, errors)
        _check_resizable(name, "status.allocatedResources", errors)


def _check_resizable(name: str, path: str, errors: Errors) -> None:
    """Of upstream's own resources, a volume has storage alone."""
    if name != "storage" and resources.is_native(name) and not names.check_qualified(name):
        errors.append(not_supported(path, name, ("storage",)))


# -- volumes -----------------------------------------------------------------------------------------------------

# In the order in which they are looked for: all after the first one found are refused.
_ORDER = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs",
    "iscsi", "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume",
    "azureDisk", "scaleIO", "local", "storageos", "csi",
)  # fmt: skip
_VOLUME_SOURCES = [(f, *SOURCES[f]) for f in _ORDER]


def _check_volume(volume: PersistentVolume, errors: Errors) -> None:
    _check_volume_spec(volume.spec, "spec", False, errors)


def _check_volume_spec(spec: PersistentVolumeSpec, path: str, is_inline: bool, errors: Errors) -> None:
    """`is_inline`: of a VolumeAttachment, not of a PersistentVolume."""
    if not spec.accessModes:
        errors.append(required(f"{path}.accessModes"))
    claims.check_access_modes(spec.accessModes, f"{path}.accessModes", errors)
    if is_inline:
        _check_inline(spec, path, errors)
    else:
        _check_capacities(spec.capacity, f"{path}.capacity", errors)
        if spec.persistentVolumeReclaimPolicy and spec.persistentVolumeReclaimPolicy not in _RECLAIM:
            where = f"{path}.persistentVolumeReclaimPolicy"
            errors.append(not_supported(where, spec.persistentVolumeReclaimPolicy, _RECLAIM))
        if spec.nodeAffinity is not None:
            _check_node_affinity(spec.nodeAffinity, f"{path}.nodeAffinity", errors)
    _check_source(spec, path, is_inline, errors)
    if not is_inline:
        if spec.storageClassName:
            rules.check_rule(spec.storageClassName, f"{path}.storageClassName", names.check_subdomain, errors)
        if spec.volumeMode is not None and spec.volumeMode not in claims.VOLUME_MODES:
            errors.append(not_supported(f"{path}.volumeMode", spec.volumeMode, claims.VOLUME_MODES))
    if spec.volumeAttributesClassName is not None and not is_inline:
        where = f"{path}.volumeAttributesClassName"
        check = names.check_subdomain
        rules.check_name(spec.volumeAttributesClassName, where, check, errors, "an empty string is disallowed")
        if spec.csi is None:
            message = "has to be specified when using volumeAttributesClassName"
            errors.append(required(f"{path}.csi", message))


def _check_inline(spec: PersistentVolumeSpec, path: str, errors: Errors) -> None:
    context = "in the context of inline volumes"
    for field in ("claimRef", "capacity", "nodeAffinity", "storageClassName"):
        if getattr(spec, field):
            errors.append(forbidden_field(f"{path}.{field}", f"may not be specified {context}"))
    if spec.csi is None:
        errors.append(required(f"{path}.csi", f"has to be specified {context}"))
    if spec.persistentVolumeReclaimPolicy not in (None, "", "Retain"):
        message = f"may only be Retain {context}"
        errors.append(forbidden_field(f"{path}.persistentVolumeReclaimPolicy", message))
    if spec.volumeMode not in (None, "Filesystem"):
        message = f"may not specify volumeMode other than Filesystem {context}"
        errors.append(forbidden_field(f"{path}.volumeMode", message))


def _check_capacities(capacity: dict[str, Quantity], path: str, errors: Errors) -> None:
    if not capacity:
        errors.append(required(path))
    if list(capacity) != ["storage"]:
        errors.append(not_supported(path, dict(capacity) or None, ("storage",)))
    for name, amount in capacity.items():
        where, nano = f"{path}[{name}]", quantity.nano(amount)
        if nano < 0:
            errors.append(invalid(where, -(-nano // 10**9), "must be a valid resource quantity"))
        if nano <= 0:
            errors.append(invalid(where, amount, "must be greater than zero"))


def _check_node_affinity(affinity: VolumeNodeAffinity, path: str, errors: Errors) -> None:
    if affinity.required is None:
        errors.append(required(f"{path}.required", "must specify required node constraints"))
    else:
        selectors.check_node_selector(affinity.required, f"{path}.required", errors, values_are_labels=True)


def _check_source(spec: PersistentVolumeSpec, path: str, is_inline: bool, errors: Errors) -> None:
    count = 0
    for field, label, check in _VOLUME_SOURCES:
        source = getattr(spec, field)
        if source is None:
            continue
        count += 1
        if count > 1 and field != "flexVolume":
            second = "cephFS" if field == "cephfs" else field
            errors.append(forbidden_field(f"{path}.{second}", "may not specify more than 1 volume type"))
            continue
        check(source, f"{path}.{label}", errors)
        match field:
            case "local":
                if not source.path:
                    errors.append(required(f"{path}.local.path"))
                paths.check_no_backsteps(source.path, f"{path}.local.path", errors)
                if spec.nodeAffinity is None:
                    errors.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
            case "csi":
                _check_csi(source, f"{path}.csi", errors)
            case "azureFile":
                if source.secretNamespace is not None and not source.secretNamespace:
                    errors.append(required(f"{path}.azureFile.secretNamespace"))
    if count == 0:
        errors.append(required(path, "must specify a volume type"))
    is_recycled = spec.persistentVolumeReclaimPolicy == "Recycle"
    if spec.hostPath is not None and is_recycled and posixpath.normpath(spec.hostPath.path) == "/":
        message = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field(f"{path}.persistentVolumeReclaimPolicy", message))


def _check_csi(source: Any, path: str, errors: Errors) -> None:
    if not source.volumeHandle:
        errors.append(required(f"{path}.volumeHandle"))
    for field in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        secret = getattr(source, field)
        if secret is not None:
            rules.check_name(secret.name, f"{path}.{field}.name", names.check_subdomain, errors)
            rules.check_name(secret.namespace, f"{path}.{field}.namespace", names.check_label, errors)


_VOLUME_FIXED = "spec.persistentvolumesource is immutable after creation"


def _update_volume(volume: PersistentVolume, old: PersistentVolume, errors: Errors) -> None:
    _check_volume(volume, errors)
    spec, before = volume.spec, old.spec
    sources = {field: getattr(spec, field) for field, _, _ in _VOLUME_SOURCES if getattr(spec, field) is not None}
    former = {field: getattr(before, field) for field, _, _ in _VOLUME_SOURCES if getattr(before, field) is not None}
    if not rules.is_same(sources, former) and not _only_expand_secret(sources, former):
        message = f"{_VOLUME_FIXED}\n{_diff(sources, former)}"
        errors.append(forbidden_field("spec.persistentvolumesource", message))
    if spec.volumeMode != before.volumeMode:
        errors.append(invalid("volumeMode", spec.volumeMode, rules.IMMUTABLE))
    if before.volumeAttributesClassName is not None and spec.volumeAttributesClassName is None:
        told = "update from non-nil value to nil is forbidden"
        errors.append(forbidden_field("spec.volumeAttributesClassName", told))
    if before.nodeAffinity is not None and spec.nodeAffinity != before.nodeAffinity:
        shown = codec.to_json(spec.nodeAffinity)
        message = f"{rules.IMMUTABLE}, except for updating from beta label to GA"
        errors.append(invalid("nodeAffinity", shown, message))


def _only_expand_secret(new: dict[str, Any], old: dict[str, Any]) -> bool:
    if set(new) != {"csi"} or set(old) != {"csi"} or old["csi"].controllerExpandSecretRef is not None:
        return False
    copy = codec.clone(new["csi"])
    copy.controllerExpandSecretRef = None
    return bool(copy == old["csi"])


# -- classes, drivers, attachments -------------------------------------------------------------------------------


def _check_parameters(parameters: dict[str, str], path: str, errors: Errors) -> None:
    if len(parameters) > 512:
        errors.append(too_long(path, 512))
        return
    if "" in parameters:
        errors.append(invalid(path, "", "field can not be empty."))
    total = sum(len(k.encode()) + len(v.encode()) for k, v in parameters.items())
    if total > 256 * 1024:
        errors.append(too_long(path, 256 * 1024))


def _check_storage_class(storage_class: StorageClass, errors: Errors) -> None:
    if not storage_class.provisioner:
        errors.append(required("provisioner"))
    else:
        for message in names.check_qualified(storage_class.provisioner.lower()):
            errors.append(invalid("provisioner", storage_class.provisioner, message))
    _check_parameters(storage_class.parameters, "parameters", errors)
    if storage_class.reclaimPolicy and storage_class.reclaimPolicy not in ("Delete", "Retain"):
        errors.append(not_supported("reclaimPolicy", storage_class.reclaimPolicy, ("Delete", "Retain")))
    modes = ("Immediate", "WaitForFirstConsumer")
    if storage_class.volumeBindingMode not in modes:
        errors.append(not_supported("volumeBindingMode", storage_class.volumeBindingMode, modes))
    _check_topologies(storage_class.allowedTopologies, "allowedTopologies", errors)


def _check_topologies(terms: list[TopologySelectorTerm], where: str, errors: Errors) -> None:
    found: list[dict[str, set[str]]] = [{}]  # upstream calls an empty term a duplicate too
    for i, term in enumerate(pausing(terms)):
        wanted: dict[str, set[str]] = {}
        for j, expression in enumerate(pausing(term.matchLabelExpressions)):
            path = f"{where}[{i}].matchLabelExpressions[{j}]"
            if not expression.values:
                errors.append(required(f"{path}.values"))
            rules.check_rule(expression.key, f"{path}.key", names.check_qualified, errors)
            seen: set[str] = set()
            for k, value in enumerate(pausing(expression.values)):
                if value in seen:
                    errors.append(duplicate(f"{path}.values[{k}]", value))
                seen.add(value)
            if expression.key in wanted:
                errors.append(duplicate(f"{path}.key", expression.key))
            else:
                wanted[expression.key] = seen
        if wanted in found:
            errors.append(duplicate(f"{where}[{i}].matchLabelExpressions", ""))
        found.append(wanted)


def _update_storage_class(storage_class: StorageClass, old: StorageClass, errors: Errors) -> None:
    _check_storage_class(storage_class, errors)
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        rules.check_immutable(getattr(storage_class, field), getattr(old, field), field, errors)


_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def _check_csi_driver(driver: CSIDriver, errors: Errors) -> None:
    spec = driver.spec
    check_driver(driver.metadata.name, "metadata.name", errors) if len(driver.metadata.name) > 63 else None
    if spec.fsGroupPolicy not in _GROUP_POLICIES:
        errors.append(not_supported("spec.fsGroupPolicy", spec.fsGroupPolicy, _GROUP_POLICIES))
    seen: set[str] = set()
    for i, request in enumerate(pausing(spec.tokenRequests)):
        path = f"spec.tokenRequests[{i}]"
        if request.audience in seen:
            errors.append(duplicate(f"{path}.audience", request.audience))
            continue
        seen.add(request.audience)
        seconds = request.expirationSeconds
        if seconds is not None and seconds < 600:
            errors.append(
                invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            )
        elif seconds is not None and seconds > 2**32:
            message = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, message))
    if spec.serviceAccountTokenInSecrets is not None and not spec.tokenRequests:
        message = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errors.append(invalid("spec.serviceAccountTokenInSecrets", spec.serviceAccountTokenInSecrets, message))
    for mode in spec.volumeLifecycleModes:
        if mode not in ("Persistent", "Ephemeral"):
            errors.append(not_supported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral")))
    period = spec.nodeAllocatableUpdatePeriodSeconds
    if period is not None and period < 10:
        message = "must be greater than or equal to 10 seconds"
        errors.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, message))


def _update_csi_driver(driver: CSIDriver, old: CSIDriver, errors: Errors) -> None:
    _check_csi_driver(driver, errors)
    rules.check_immutable(driver.spec.attachRequired, old.spec.attachRequired, "spec.attachedRequired", errors)
    modes, former = driver.spec.volumeLifecycleModes, old.spec.volumeLifecycleModes
    rules.check_immutable(modes, former, "spec.volumeLifecycleModes", errors)


def _check_csi_node(node: CSINode, errors: Errors) -> None:
    seen: set[str] = set()
    for i, driver in enumerate(pausing(node.spec.drivers)):
        path = f"spec.drivers[{i}]"
        check_driver(driver.name, f"{path}.name", errors)
        if not driver.nodeID:
            errors.append(required(f"{path}.nodeID"))
        elif len(driver.nodeID) > 256:
            errors.append(invalid(f"{path}.nodeID", driver.nodeID, "nodeID length must be 256 or less"))
        if driver.allocatable is not None:
            rules.check_not_negative(driver.allocatable.count, f"{path}.allocatable.count", errors)
        keys: set[str] = set()
        for key in driver.topologyKeys:
            if not key:
                errors.append(required(path))
            if key in keys:
                errors.append(duplicate(path, key))
            keys.add(key)
            rules.check_rule(key, path, names.check_qualified, errors)
        if driver.name in seen:
            errors.append(duplicate(f"{path}.name", driver.name))
        seen.add(driver.name)


def _update_csi_node(node: CSINode, old: CSINode, errors: Errors) -> None:
    _check_csi_node(node, errors)
    before = {d.name: d for d in old.spec.drivers}
    for driver in node.spec.drivers:
        former = before.get(driver.name)
        if former is None:
            continue
        copy = codec.clone(driver)
        copy.allocatable = former.allocatable
        if copy != former:
            errors.append(invalid("spec.drivers", codec.to_json(driver), rules.IMMUTABLE))


def _check_attachment(attachment: VolumeAttachment, errors: Errors) -> None:
    spec = attachment.spec
    check_driver(spec.attacher, "spec.attacher", errors)
    source = spec.source
    message = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if source.inlineVolumeSpec is None and source.persistentVolumeName is None:
        errors.append(required("spec.source", message))
    elif source.inlineVolumeSpec is not None and source.persistentVolumeName is not None:
        errors.append(forbidden_field("spec.source", message))
    elif source.inlineVolumeSpec is not None:
        _check_volume_spec(source.inlineVolumeSpec, "spec.source.inlineVolumeSpec", True, errors)
    rules.check_rule(spec.nodeName, "spec.nodeName", names.check_subdomain, errors)
    if source.persistentVolumeName is not None:
        path = "spec.source.persistentVolumeName"
        if not source.persistentVolumeName:
            errors.append(required(path, "must specify non empty persistentVolumeName"))
        rules.check_rule(source.persistentVolumeName, path, names.check_subdomain, errors)


def _status_of_attachment(attachment: VolumeAttachment, old: VolumeAttachment, errors: Errors) -> None:
    for field in ("attachError", "detachError"):
        error = getattr(attachment.status, field)
        if error is not None:
            rules.check_range(error.errorCode, f"status.{field}.errorCode", 0, 2**31 - 1, errors)


def _update_attachment(attachment: VolumeAttachment, old: VolumeAttachment, errors: Errors) -> None:
    _check_attachment(attachment, errors)
    if attachment.spec != old.spec:
        errors.append(invalid("spec", codec.to_json(attachment.spec), rules.IMMUTABLE))


def _check_capacity(capacity: CSIStorageCapacity, errors: Errors) -> None:
    rules.check_rule(capacity.storageClassName, "storageClassName", names.check_subdomain, errors)
    if capacity.capacity is not None:
        resources.check_not_negative(capacity.capacity, "capacity", errors)
    selectors.check_label_selector(capacity.nodeTopology, "nodeTopology", errors)


def _update_capacity(capacity: CSIStorageCapacity, old: CSIStorageCapacity, errors: Errors) -> None:
    _check_capacity(capacity, errors)
    rules.check_immutable(capacity.nodeTopology, old.nodeTopology, "nodeTopology", errors)
    rules.check_immutable(capacity.storageClassName, old.storageClassName, "storageClassName", errors)


def _check_attributes_class(attributes: Any, errors: Errors) -> None:
    if not attributes.driverName:
        errors.append(required("driverName"))
    else:
        rules.check_rule(attributes.driverName.lower(), "driverName", names.check_qualified, errors)
    if not attributes.parameters:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    else:
        _check_parameters(attributes.parameters, "parameters", errors)


def _update_attributes_class(attributes: Any, old: Any, errors: Errors) -> None:
    for field in ("driverName", "parameters"):
        if getattr(attributes, field) != getattr(old, field):
            errors.append(forbidden_field(field, f"updates to {field} are forbidden."))
    _check_attributes_class(attributes, errors)


RULES: dict[type[Any], Rules] = {
    PersistentVolumeClaim: Rules(_check_claim, _update_claim, _status_of_claim),
    PersistentVolume: Rules(_check_volume, _update_volume),
    StorageClass: Rules(_check_storage_class, _update_storage_class),
    CSIDriver: Rules(_check_csi_driver, _update_csi_driver),
    CSINode: Rules(_check_csi_node, _update_csi_node),
    VolumeAttachment: Rules(_check_attachment, _update_attachment, _status_of_attachment),
    CSIStorageCapacity: Rules(_check_capacity, _update_capacity),
    VolumeAttributesClass: Rules(_check_attributes_class, _update_attributes_class),
    storage_v1beta1.VolumeAttributesClass: Rules(_check_attributes_class, _update_attributes_class),
}

__all__ = ["RULES", "too_many"]
