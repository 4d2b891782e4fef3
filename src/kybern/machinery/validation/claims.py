"""Specs of PersistentVolumeClaims, also as templates inside pods and StatefulSets."""

from __future__ import annotations

from kybern.api.core_v1 import PersistentVolumeClaimSpec
from kybern.machinery import names, quantity
from kybern.machinery.status import forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules, selectors
from kybern.machinery.validation.rules import Errors

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def check_access_modes(modes: list[str], path: str, errors: Errors) -> None:
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(not_supported(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and any(m in ACCESS_MODES for m in modes if m != "ReadWriteOncePod"):
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))


def check_spec(spec: PersistentVolumeClaimSpec, path: str, errors: Errors) -> None:
    if not spec.accessModes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    if spec.selector is not None:
        selectors.check_label_selector(spec.selector, f"{path}.selector", errors)
    check_access_modes(spec.accessModes, f"{path}.accessModes", errors)
    where = f"{path}.resources[storage]"
    storage = spec.resources.requests.get("storage")
    if storage is None:
        errors.append(required(where))
    elif quantity.nano(storage) <= 0:
        errors.append(invalid(where, storage, "must be greater than zero"))
    if spec.storageClassName:
        rules.check_rule(spec.storageClassName, f"{path}.storageClassName", names.check_subdomain, errors)
    if spec.volumeMode is not None and spec.volumeMode not in VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", spec.volumeMode, VOLUME_MODES))
    _check_sources(spec, path, errors)
    if spec.volumeAttributesClassName:
        where = f"{path}.volumeAttributesClassName"
        rules.check_rule(spec.volumeAttributesClassName, where, names.check_subdomain, errors)


def _check_sources(spec: PersistentVolumeClaimSpec, path: str, errors: Errors) -> None:
    for field in ("dataSource", "dataSourceRef"):
        source = getattr(spec, field)
        if source is None:
            continue
        where = f"{path}.{field}"
        rules.check_required(source.name, f"{where}.name", errors)
        rules.check_required(source.kind, f"{where}.kind", errors)
        if not source.apiGroup and source.kind != "PersistentVolumeClaim":
            message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            errors.append(invalid(where, source.kind, message))
        if source.apiGroup:
            rules.check_rule(source.apiGroup, f"{where}.apiGroup", names.check_subdomain, errors)
    if spec.dataSourceRef is not None and spec.dataSourceRef.namespace:
        rules.check_rule(spec.dataSourceRef.namespace, f"{path}.dataSourceRef.namespace", names.check_label, errors)
    one, other = spec.dataSource, spec.dataSourceRef
    if one is None or other is None:
        return
    if other.namespace:
        errors.append(invalid(path, {}, "may not be specified when dataSourceRef.namespace is specified"))
    elif (one.kind, one.name, one.apiGroup) != (other.kind, other.name, other.apiGroup):
        errors.append(invalid(path, {}, "must match dataSourceRef"))
