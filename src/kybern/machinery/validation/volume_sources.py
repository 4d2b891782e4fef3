"""Volume sources, those of pods and of PersistentVolumes alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kybern.api.core_v1 import ISCSIVolumeSource, ObjectReference, SecretReference
from kybern.machinery import names, quantity
from kybern.machinery.status import FieldError, forbidden_field, invalid, not_supported, required, too_long
from kybern.machinery.validation import environment, paths, rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_BAD_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATHS = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def check_mode(mode: int | None, path: str, errors: Errors) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        errors.append(invalid(path, mode, _BAD_MODE))


def _check_items(items: list[Any], path: str, errors: Errors) -> None:
    for i, item in enumerate(pausing(items)):
        where = f"{path}[{i}]"
        rules.check_required(item.key, f"{where}.key", errors)
        if rules.check_required(item.path, f"{where}.path", errors):
            paths.check_local(item.path, f"{where}.path", errors)
        check_mode(item.mode, f"{where}.mode", errors)


def _check_secret(source: Any, path: str, errors: Errors) -> None:
    rules.check_required(source.secretName, f"{path}.secretName", errors)
    check_mode(source.defaultMode, f"{path}.defaultMode", errors)
    _check_items(source.items, f"{path}.items", errors)


def _check_config_map(source: Any, path: str, errors: Errors) -> None:
    rules.check_required(source.name, f"{path}.name", errors)
    check_mode(source.defaultMode, f"{path}.defaultMode", errors)
    _check_items(source.items, f"{path}.items", errors)


def _check_downward_items(items: list[Any], path: str, errors: Errors) -> None:
    for item in items:
        if rules.check_required(item.path, f"{path}.path", errors):
            paths.check_local(item.path, f"{path}.path", errors)
        if item.fieldRef is not None:
            environment.check_field(item.fieldRef, environment.VOLUME_FIELDS, f"{path}.fieldRef", errors)
            if item.resourceFieldRef is not None:
                message = "fieldRef and resourceFieldRef can not be specified simultaneously"
                errors.append(invalid(path, "resource", message))
        elif item.resourceFieldRef is not None:
            environment.check_resource_field(item.resourceFieldRef, True, f"{path}.resourceFieldRef", errors)
        else:
            errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
        check_mode(item.mode, f"{path}.mode", errors)


def _check_downward(source: Any, path: str, errors: Errors) -> None:
    check_mode(source.defaultMode, f"{path}.defaultMode", errors)
    _check_downward_items(source.items, path, errors)


_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")


def _check_projected(source: Any, path: str, errors: Errors) -> None:
    check_mode(source.defaultMode, f"{path}.defaultMode", errors)
    taken: set[str] = set()

    def take(place: str | None) -> None:
        if place:
            if place in taken:
                errors.append(invalid(path, place, "conflicting duplicate paths"))
            taken.add(place)

    for i, projection in enumerate(pausing(source.sources)):
        where = f"{path}.sources[{i}]"
        present = [name for name in _PROJECTIONS if getattr(projection, name) is not None]
        if len(present) > 1:
            errors.append(forbidden_field(where, "may not specify more than 1 volume type per source"))
        if projection.secret is not None:
            rules.check_required(projection.secret.name, f"{where}.secret.name", errors)
            _check_items(projection.secret.items, f"{where}.secret.items", errors)
            for item in projection.secret.items:
                take(item.path)
        if projection.configMap is not None:
            rules.check_required(projection.configMap.name, f"{where}.configMap.name", errors)
            _check_items(projection.configMap.items, f"{where}.configMap.items", errors)
            for item in projection.configMap.items:
                take(item.path)
        if projection.downwardAPI is not None:
            _check_downward_items(projection.downwardAPI.items, f"{where}.downwardAPI", errors)
            for item in projection.downwardAPI.items:
                take(item.path)
        if projection.serviceAccountToken is not None:
            _check_token(projection.serviceAccountToken, path, where, errors)
        if projection.clusterTrustBundle is not None:
            _check_bundle(projection.clusterTrustBundle, f"{where}.clusterTrustBundle", errors)
            take(projection.clusterTrustBundle.path)
        if projection.podCertificate is not None:
            _check_certificate(projection.podCertificate, f"{where}.podCertificate", errors)
            for name in ("credentialBundlePath", "keyPath", "certificateChainPath"):
                take(getattr(projection.podCertificate, name))


def _check_token(token: Any, path: str, where: str, errors: Errors) -> None:
    seconds = token.expirationSeconds
    if seconds is not None:
        field = f"{where}.serviceAccountToken.expirationSeconds"
        if seconds < 600:
            errors.append(invalid(field, seconds, "may not specify a duration less than 10 minutes"))
        elif seconds > 2**32:
            errors.append(invalid(field, seconds, "may not specify a duration larger than 2^32 seconds"))
    if rules.check_required(token.path, f"{path}.path", errors):
        paths.check_local(token.path, f"{path}.path", errors)


def _check_bundle(bundle: Any, path: str, errors: Errors) -> None:
    if bundle.name is not None and bundle.signerName is not None:
        errors.append(invalid(path, None, "only one of name and signerName may be used"))
    elif bundle.name is not None:
        rules.check_name(bundle.name, f"{path}.name", names.check_subdomain, errors)
        if bundle.labelSelector is not None:
            errors.append(invalid(f"{path}.labelSelector", None, "labelSelector must be unset if name is specified"))
    elif bundle.signerName is not None:
        check_signer(bundle.signerName, f"{path}.signerName", errors)
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    if rules.check_required(bundle.path, f"{path}.path", errors):
        paths.check_local(bundle.path, f"{path}.path", errors)


def _check_certificate(certificate: Any, path: str, errors: Errors) -> None:
    check_signer(certificate.signerName, f"{path}.signerName", errors)
    kinds = ("ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")
    if certificate.keyType not in kinds:
        errors.append(not_supported(f"{path}.keyType", certificate.keyType, kinds))
    seconds = certificate.maxExpirationSeconds
    if seconds is not None and seconds < 3600:
        errors.append(
            invalid(f"{path}.maxExpirationSeconds", seconds, "if provided, maxExpirationSeconds must be >= 3600")
        )
    places = [n for n in ("credentialBundlePath", "keyPath", "certificateChainPath") if getattr(certificate, n)]
    if not places:
        errors.append(required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
    for name in places:
        paths.check_local(getattr(certificate, name), f"{path}.{name}", errors)


def check_signer(name: str, path: str, errors: Errors) -> None:
    """`example.com/signer`."""
    if not name:
        errors.append(required(path))
        return
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        errors.append(
            invalid(path, name, 'must be a fully qualified domain and path of the form "example.com/signer-name"')
        )
        return
    rules.check_rule(domain, path, names.check_subdomain, errors)
    if "." not in domain:
        errors.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    if not rest:
        errors.append(invalid(path, rest, "validating label: a path is required"))


def _check_host_path(source: Any, path: str, errors: Errors) -> None:
    if not rules.check_required(source.path, f"{path}.path", errors):
        return
    paths.check_no_backsteps(source.path, f"{path}.path", errors)
    if source.type is not None and source.type not in _HOST_PATHS:
        errors.append(not_supported(f"{path}.type", source.type, _HOST_PATHS))


def _check_empty_dir(source: Any, path: str, errors: Errors) -> None:
    if source.sizeLimit is not None and quantity.nano(source.sizeLimit) < 0:
        errors.append(forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))


def _check_nfs(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "server", "path")
    if not source.path.startswith("/"):
        errors.append(invalid(f"{path}.path", source.path, "must be an absolute path"))


def _require(source: Any, path: str, errors: Errors, *fields: str) -> None:
    for field in fields:
        rules.check_required(getattr(source, field), f"{path}.{field}", errors)


def _required(*fields: str) -> Callable[[Any, str, Errors], None]:
    return lambda source, path, errors: _require(source, path, errors, *fields)


def _check_git(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "repository")
    if source.directory:
        paths.check_descending(source.directory, f"{path}.directory", errors)


_INITIATOR = re.compile(r"iqn\.\d{4}-\d{2}\.([a-zA-Z0-9-.]+)(:[^,;*&$|\s]+)$|eui.[a-zA-Z0-9]{16}$|naa.[a-zA-Z0-9]{32}$")


def _check_initiator(value: str, in_pod: bool, path: str, errors: Errors) -> None:
    if in_pod and not value.startswith(("iqn", "eui", "naa")):
        errors.append(invalid(path, value, "must be valid format starting with iqn, eui, or naa"))
    elif not _INITIATOR.match(value):
        errors.append(invalid(path, value, "must be valid format"))


def _check_iscsi(source: Any, path: str, errors: Errors) -> None:
    in_pod = isinstance(source, ISCSIVolumeSource)
    _require(source, path, errors, "targetPortal")
    if rules.check_required(source.iqn, f"{path}.iqn", errors):
        _check_initiator(source.iqn, in_pod, f"{path}.iqn", errors)
    rules.check_range(source.lun, f"{path}.lun", 0, 255, errors)
    if (source.chapAuthDiscovery or source.chapAuthSession) and source.secretRef is None:
        errors.append(required(f"{path}.secretRef"))
    if not in_pod and source.secretRef is not None:
        _require(source.secretRef, f"{path}.secretRef", errors, "name")
    if source.initiatorName is not None:
        _check_initiator(source.initiatorName, in_pod, f"{path}.initiatorname", errors)


def _check_fc(source: Any, path: str, errors: Errors) -> None:
    if not source.targetWWNs and not source.wwids:
        errors.append(required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if source.targetWWNs and source.wwids:
        message = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid(f"{path}.targetWWNs", source.targetWWNs, message))
    if source.targetWWNs:
        if source.lun is None:
            errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        else:
            rules.check_range(source.lun, f"{path}.lun", 0, 255, errors)


def _check_flex(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "driver")
    for key in source.options:
        domain = key.split("/")[0]
        if domain.endswith(("kubernetes.io", "k8s.io")):
            message = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, message))


_AZURE_URI = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
_AZURE_MANAGED_URI = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"


def _check_azure_disk(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "diskName", "diskURI")
    if source.cachingMode not in ("None", "ReadOnly", "ReadWrite"):
        errors.append(not_supported(f"{path}.cachingMode", source.cachingMode, ("None", "ReadOnly", "ReadWrite")))
    if source.kind not in ("Dedicated", "Managed", "Shared"):
        errors.append(not_supported(f"{path}.kind", source.kind, ("Dedicated", "Managed", "Shared")))
    if source.kind == "Managed":
        if not source.diskURI.startswith("/subscriptions"):
            errors.append(not_supported(f"{path}.diskURI", source.diskURI, (_AZURE_MANAGED_URI,)))
    elif not source.diskURI.startswith("https://"):
        errors.append(not_supported(f"{path}.diskURI", source.diskURI, (_AZURE_URI,)))


_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*")


def _check_quobyte(source: Any, path: str, errors: Errors) -> None:
    where = f"{path}.registry"
    if not source.registry:
        errors.append(required(where, "must be a host:port pair or multiple pairs separated by commas"))
    elif any(not _HOST_PORT.fullmatch(pair) for pair in source.registry.split(",")):
        errors.append(invalid(where, source.registry, "must be a host:port pair or multiple pairs separated by commas"))
    if len(source.tenant or "") >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    _require(source, path, errors, "volume")


def _check_flocker(source: Any, path: str, errors: Errors) -> None:
    if not source.datasetName and not source.datasetUUID:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if source.datasetName and source.datasetUUID:
        errors.append(invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in (source.datasetName or ""):
        errors.append(invalid(f"{path}.datasetName", source.datasetName, "must not contain '/'"))


def _partition(field: str) -> Callable[[Any, str, Errors], None]:
    def check(source: Any, path: str, errors: Errors) -> None:
        _require(source, path, errors, field)
        if source.partition is not None and not 0 <= source.partition <= 255:
            errors.append(invalid(f"{path}.partition", source.partition, rules.in_range(1, 255)))

    return check


def check_driver(name: str, path: str, errors: Errors) -> None:
    """The name of a CSI driver."""
    if not name:
        errors.append(required(path))
        return
    if len(name) > 63:
        errors.append(too_long(path, 63))
    for message in names.check_subdomain(name.lower()):
        errors.append(invalid(path, name, message))


def _check_csi(source: Any, path: str, errors: Errors) -> None:
    check_driver(source.driver, f"{path}.driver", errors)
    secret = getattr(source, "nodePublishSecretRef", None)
    if secret is None or hasattr(source, "volumeHandle"):
        return
    if not secret.name:
        errors.append(required(f"{path}.nodePublishSecretRef.name"))
    else:
        rules.check_rule(secret.name, f"{path}.name", names.check_subdomain, errors)


def _check_storage_os(source: Any, path: str, errors: Errors) -> None:
    rules.check_name(source.volumeName, f"{path}.volumeName", names.check_label, errors)
    rules.check_optional(source.volumeNamespace, f"{path}.volumeNamespace", names.check_label, errors)
    _require_reference(source, path, errors)


def _require_reference(source: Any, path: str, errors: Errors) -> None:
    """The secret of a PersistentVolume's source is in some namespace; a pod's is in that of the pod."""
    if isinstance(source.secretRef, SecretReference | ObjectReference):
        _require(source.secretRef, f"{path}.secretRef", errors, "name", "namespace")
    elif source.secretRef is not None:
        _require(source.secretRef, f"{path}.secretRef", errors, "name")


def _check_cinder(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "volumeID")
    _require_reference(source, path, errors)


def _check_gluster(source: Any, path: str, errors: Errors) -> None:
    _require(source, path, errors, "endpoints", "path")
    namespace = getattr(source, "endpointsNamespace", None)
    if namespace is not None:
        where = f"{path}.endpointsNamespace"
        if not namespace:
            message = "if the endpointnamespace is set, it must be a valid namespace name"
            errors.append(invalid(where, namespace, message))
        else:
            rules.check_rule(namespace, where, names.check_label, errors)


def _check_image(source: Any, path: str, errors: Errors) -> None:
    policies = ("Always", "IfNotPresent", "Never")
    if source.pullPolicy not in policies:
        errors.append(not_supported(f"{path}.pullPolicy", source.pullPolicy, policies))


# Field of Volume or PersistentVolumeSpec -> (what its path is called, check).
SOURCES: dict[str, tuple[str, Callable[[Any, str, Errors], None]]] = {
    "emptyDir": ("emptyDir", _check_empty_dir),
    "hostPath": ("hostPath", _check_host_path),
    "gitRepo": ("gitRepo", _check_git),
    "gcePersistentDisk": ("persistentDisk", _partition("pdName")),
    "awsElasticBlockStore": ("awsElasticBlockStore", _partition("volumeID")),
    "secret": ("secret", _check_secret),
    "nfs": ("nfs", _check_nfs),
    "iscsi": ("iscsi", _check_iscsi),
    "glusterfs": ("glusterfs", _check_gluster),
    "flocker": ("flocker", _check_flocker),
    "persistentVolumeClaim": ("persistentVolumeClaim", _required("claimName")),
    "rbd": ("rbd", _required("monitors", "image")),
    "cinder": ("cinder", _check_cinder),
    "cephfs": ("cephfs", _required("monitors")),
    "quobyte": ("quobyte", _check_quobyte),
    "downwardAPI": ("downwardAPI", _check_downward),
    "fc": ("fc", _check_fc),
    "flexVolume": ("flexVolume", _check_flex),
    "configMap": ("configMap", _check_config_map),
    "azureFile": ("azureFile", _required("secretName", "shareName")),
    "vsphereVolume": ("vsphereVolume", _required("volumePath")),
    "photonPersistentDisk": ("photonPersistentDisk", _required("pdID")),
    "portworxVolume": ("portworxVolume", _required("volumeID")),
    "azureDisk": ("azureDisk", _check_azure_disk),
    "storageos": ("storageos", _check_storage_os),
    "projected": ("projected", _check_projected),
    "scaleIO": ("scaleIO", _required("gateway", "system", "volumeName")),
    "csi": ("csi", _check_csi),
    "local": ("local", lambda source, path, errors: None),
    "image": ("image", _check_image),
}

__all__ = ["SOURCES", "FieldError", "check_driver", "check_mode", "check_signer"]
