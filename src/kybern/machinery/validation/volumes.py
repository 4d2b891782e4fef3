"""A pod's volumes, and the mounts and devices of its containers."""

from __future__ import annotations

from collections.abc import Mapping

from kybern.api.core_v1 import Container, EphemeralContainer, EphemeralVolumeSource, PodSpec, Volume, VolumeMount
from kybern.machinery import names
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_found_field, not_supported, required
from kybern.machinery.validation import claims, paths, rules
from kybern.machinery.validation.rules import Errors
from kybern.machinery.validation.volume_sources import SOURCES
from kybern.pausing import pausing

_TWO_TYPES = "may not specify more than 1 volume type"
_BEFORE_EPHEMERAL = [
    (field, *SOURCES[field]) for field in SOURCES if field in Volume.__struct_fields__ and field != "image"
]
# How upstream calls some sources when they come second, one of them misspelled.
_SECOND = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RECURSIONS = ("Disabled", "Enabled", "IfPossible")


def check_volumes(volumes: list[Volume], path: str, errors: Errors, *, needs_image: bool = False) -> dict[str, Volume]:
    """The volumes without fault, by name."""
    found: dict[str, Volume] = {}
    for i, volume in enumerate(pausing(volumes)):
        where = f"{path}[{i}]"
        before = len(errors)
        _check_source(volume, where, needs_image, errors)
        if not volume.name:
            errors.append(required(f"{where}.name"))
            continue
        faults = names.check_label(volume.name)
        if faults:
            for message in faults:
                errors.append(invalid(f"{where}.name", volume.name, message))
        elif volume.name in found:
            errors.append(duplicate(f"{where}.name", volume.name))
        elif len(errors) == before:
            found[volume.name] = volume
    return found


def _check_source(volume: Volume, path: str, needs_image: bool, errors: Errors) -> None:
    count = 0
    for field, label, check in _BEFORE_EPHEMERAL:
        source = getattr(volume, field)
        if source is None:
            continue
        count += 1
        if count > 1:
            errors.append(forbidden_field(f"{path}.{_SECOND.get(field, field)}", _TWO_TYPES))
        else:
            check(source, f"{path}.{label}", errors)
    if volume.ephemeral is not None:
        count += 1
        if count > 1:
            errors.append(forbidden_field(f"{path}.ephemeral", _TWO_TYPES))
        else:
            _check_ephemeral(volume.ephemeral, f"{path}.ephemeral", errors)
    if volume.image is not None:
        count += 1
        if count > 1:
            errors.append(forbidden_field(f"{path}.image", _TWO_TYPES))
        else:
            if needs_image and not volume.image.reference:
                errors.append(required(f"{path}.image.reference"))
            SOURCES["image"][1](volume.image, f"{path}.image", errors)
    if count == 0:
        errors.append(required(path, "must specify a volume type"))


def _check_ephemeral(source: EphemeralVolumeSource, path: str, errors: Errors) -> None:
    path = f"{path}.volumeClaimTemplate"
    template = source.volumeClaimTemplate
    if template is None:
        errors.append(required(path))
        return
    if template.metadata is not None:
        meta = template.metadata
        rules.check_annotations(meta.annotations, f"{path}.metadata.annotations", errors)
        rules.check_labels(meta.labels, f"{path}.metadata.labels", errors)
        for field in meta.__struct_fields__:
            if field not in ("annotations", "labels") and getattr(meta, field):
                shown = "uID" if field == "uid" else field
                errors.append(forbidden_field(f"{path}.metadata.{shown}", "cannot be set"))
    claims.check_spec(template.spec, f"{path}.spec", errors)


def check_pod_only(spec: PodSpec, pod_name: str, path: str, errors: Errors) -> None:
    """What a template is not asked for: names of claims made from the pod's, accounts of tokens."""
    for i, volume in enumerate(pausing(spec.volumes)):
        if volume.ephemeral is not None and volume.name:
            claim = f"{pod_name}-{volume.name}"
            for message in names.check_subdomain(claim):
                errors.append(invalid(f"{path}[{i}].name", volume.name, f'PVC name "{claim}": {message}'))
    _check_service_account_tokens(spec, path, errors)


def _check_service_account_tokens(spec: PodSpec, path: str, errors: Errors) -> None:
    """A projected token is somebody's."""
    if spec.serviceAccountName:
        return
    for i, volume in enumerate(pausing(spec.volumes)):
        if volume.projected is not None:
            for j, source in enumerate(pausing(volume.projected.sources)):
                if source.serviceAccountToken is not None:
                    where = f"{path}[{i}].projected.sources[{j}].serviceAccountToken"
                    errors.append(forbidden_field(where, "must not be specified when serviceAccountName is not set"))


def check_mounts(
    container: Container | EphemeralContainer, volumes: Mapping[str, Volume], path: str, errors: Errors
) -> None:
    devices = {d.name for d in container.volumeDevices}
    device_paths = {d.name: d.devicePath for d in container.volumeDevices}.values()
    taken: set[str] = set()
    for i, mount in enumerate(pausing(container.volumeMounts)):
        where = f"{path}[{i}]"
        if not mount.name:
            errors.append(required(f"{where}.name"))
        if mount.name not in volumes:
            errors.append(not_found_field(f"{where}.name", mount.name))
        if not mount.mountPath:
            errors.append(required(f"{where}.mountPath"))
        if mount.mountPath in taken:
            errors.append(invalid(f"{where}.mountPath", mount.mountPath, "must be unique"))
        taken.add(mount.mountPath)
        if mount.name in devices:
            errors.append(invalid(f"{where}.name", mount.name, "must not already exist in volumeDevices"))
        if mount.mountPath in device_paths:
            message = "must not already exist as a path in volumeDevices"
            errors.append(invalid(f"{where}.mountPath", mount.mountPath, message))
        if mount.subPath:
            paths.check_descending(mount.subPath, f"{path}.subPath", errors)
        if mount.subPathExpr:
            if mount.subPath:
                message = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid(f"{where}.subPathExpr", mount.subPathExpr, message))
            paths.check_descending(mount.subPathExpr, f"{path}.subPathExpr", errors)
        if mount.mountPropagation is not None:
            _check_propagation(mount, container, f"{path}.mountPropagation", errors)
        if mount.recursiveReadOnly is not None:
            _check_recursion(mount, f"{path}.recursiveReadOnly", errors)


def _check_propagation(
    mount: VolumeMount, container: Container | EphemeralContainer, path: str, errors: Errors
) -> None:
    if mount.mountPropagation not in _PROPAGATIONS:
        errors.append(not_supported(path, mount.mountPropagation, _PROPAGATIONS))
    context = container.securityContext
    privileged = context is not None and bool(context.privileged)
    if mount.mountPropagation == "Bidirectional" and not privileged:
        message = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden_field(path, message))


def _check_recursion(mount: VolumeMount, path: str, errors: Errors) -> None:
    if mount.recursiveReadOnly == "Disabled":
        return
    if mount.recursiveReadOnly not in _RECURSIONS:
        errors.append(not_supported(path, mount.recursiveReadOnly, _RECURSIONS))
        return
    if not mount.readOnly:
        errors.append(forbidden_field(path, "may only be specified when readOnly is true"))
    if mount.mountPropagation not in (None, "None"):
        errors.append(forbidden_field(path, "may only be specified when mountPropagation is None or not specified"))


def check_devices(
    container: Container | EphemeralContainer, volumes: Mapping[str, Volume], path: str, errors: Errors
) -> None:
    mounts = {m.name for m in container.volumeMounts}
    mount_paths = {m.name: m.mountPath for m in container.volumeMounts}.values()
    taken_names: set[str] = set()
    taken_paths: set[str] = set()
    for i, device in enumerate(pausing(container.volumeDevices)):
        where, name, device_path = f"{path}[{i}]", device.name, device.devicePath
        if not name:
            errors.append(required(f"{where}.name"))
        elif name in taken_names:
            errors.append(invalid(f"{where}.name", name, "must be unique"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(not_found_field(f"{where}.name", name))
        elif volume.persistentVolumeClaim is None and volume.ephemeral is None:
            message = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{where}.name", name, message))
        if not device_path:
            errors.append(required(f"{where}.devicePath"))
        if device_path in taken_paths:
            errors.append(invalid(f"{where}.devicePath", device_path, "must be unique"))
        if paths.has_backsteps(device_path):
            errors.append(invalid(f"{where}.devicePath", device_path, "can not contain backsteps ('..')"))
        taken_paths.add(device_path)
        if name in mounts:
            errors.append(invalid(f"{where}.name", name, "must not already exist in volumeMounts"))
        if device_path in mount_paths:
            message = "must not already exist as a path in volumeMounts"
            errors.append(invalid(f"{where}.devicePath", device_path, message))
        taken_names.add(name)
