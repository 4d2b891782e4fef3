"""The environment of a container: services, envFrom and env, in that order of precedence, with $(NAME) expanded.

Pure: what the variables refer to was fetched before (`Sources`). Used by sync/apply; failures are shown as
CreateContainerConfigError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kybern.api.core_v1 import ConfigMap, EnvVar, EnvVarSource, Pod, Secret, Service
from kybern.kubelet import expansion, fields, podkeys, resources
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.podkeys import AnyContainer


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values come from. The look-ups answer None for what does not exist."""

    config_map: Callable[[str, str], ConfigMap | None]  # namespace, name
    secret: Callable[[str, str], Secret | None]
    services: Sequence[Service] = ()  # of the pod's namespace, and `kubernetes` of the default one
    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    node_name: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    read_volume_file: Callable[[str, str], str | None] | None = None  # volume, path: for fileKeyRef


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables in order, and keys of envFrom that cannot be variables."""

    values: dict[str, str]
    skipped: tuple[str, ...] = ()


def build(pod: Pod, container: AnyContainer, sources: Sources) -> Environment:
    """Raises StartFailed (CreateContainerConfigError) where something referred to is missing."""
    values: dict[str, str] = {}
    skipped: list[str] = []
    for source in container.envFrom:
        prefix = source.prefix or ""
        if source.configMapRef:
            found = _config_map(pod, source.configMapRef.name or "", bool(source.configMapRef.optional), sources)
            entries: Mapping[str, str] = found.data if found else {}
        elif source.secretRef:
            secret = _secret(pod, source.secretRef.name or "", bool(source.secretRef.optional), sources)
            entries = {k: v.decode("utf-8", "surrogateescape") for k, v in secret.data.items()} if secret else {}
        else:
            continue
        for key in sorted(entries):
            name = prefix + key
            if is_env_name(name):
                values[name] = entries[key]
            else:
                skipped.append(key)
    service_values = service_env(sources.services, pod.metadata.namespace, pod.spec.enableServiceLinks is not False)
    # What a variable may refer to: everything defined before it, and the services.
    known = {**service_values, **values}
    for variable in container.env:
        value = _value_of(pod, container, variable, known, sources)
        if value is not None:
            values[variable.name] = known[variable.name] = value
    for name, value in service_values.items():
        values.setdefault(name, value)
    return Environment(values, tuple(skipped))


def is_env_name(name: str) -> bool:
    """Any printable ASCII but `=`: the relaxed rule since v1.32."""
    return bool(name) and all(32 <= ord(c) < 127 and c != "=" for c in name)


def _value_of(
    pod: Pod, container: AnyContainer, variable: EnvVar, known: Mapping[str, str], sources: Sources
) -> str | None:
    if variable.value:
        return expansion.expand(variable.value, known)
    if variable.valueFrom is None:
        return ""
    return _referred(pod, container, variable.valueFrom, sources)


def _referred(pod: Pod, container: AnyContainer, source: EnvVarSource, sources: Sources) -> str | None:
    """The value, or None where an optional one is missing: the variable is left out."""
    if source.fieldRef:
        try:
            return fields.field_text(
                pod, source.fieldRef.fieldPath, sources.pod_ips, sources.host_ips, sources.node_name
            )
        except ValueError as error:
            raise StartFailed(Reason.CONFIG, str(error)) from None
    if source.resourceFieldRef:
        return _resource(pod, container, source, sources)
    if source.configMapKeyRef:
        wanted = source.configMapKeyRef
        name, optional = wanted.name or "", bool(wanted.optional)
        found = _config_map(pod, name, optional, sources)
        if found is None:
            return None
        if wanted.key not in found.data and not optional:
            raise _missing_key(wanted.key, "ConfigMap", pod, name)
        return found.data.get(wanted.key)
    if source.secretKeyRef:
        chosen = source.secretKeyRef
        name, optional = chosen.name or "", bool(chosen.optional)
        secret = _secret(pod, name, optional, sources)
        if secret is None:
            return None
        if chosen.key not in secret.data:
            if optional:
                return None
            raise _missing_key(chosen.key, "Secret", pod, name)
        return secret.data[chosen.key].decode("utf-8", "surrogateescape")
    if source.fileKeyRef:
        return _from_file(source, sources)
    return ""


def _resource(pod: Pod, container: AnyContainer, source: EnvVarSource, sources: Sources) -> str:
    wanted = source.resourceFieldRef
    assert wanted is not None
    target: AnyContainer = container
    if wanted.containerName and wanted.containerName != container.name:
        found = podkeys.find_container(pod, wanted.containerName)
        if found is None:
            raise StartFailed(Reason.CONFIG, f"container {wanted.containerName} not found")
        target = found[1]
    try:
        return resources.resource_field(pod, target, wanted.resource, wanted.divisor or "", sources.allocatable)
    except ValueError as error:
        raise StartFailed(Reason.CONFIG, str(error)) from None


def _from_file(source: EnvVarSource, sources: Sources) -> str | None:
    wanted = source.fileKeyRef
    assert wanted is not None
    text = sources.read_volume_file(wanted.volumeName, wanted.path) if sources.read_volume_file else None
    if text is None:
        if wanted.optional:
            return None
        raise StartFailed(Reason.CONFIG, f'environment variable file "{wanted.path}" not found')
    found = parse_env_file(text)
    if wanted.key in found:
        return found[wanted.key]
    if wanted.optional:
        return None
    raise StartFailed(Reason.CONFIG, f'environment variable key "{wanted.key}" not found in file "{wanted.path}"')


def parse_env_file(text: str) -> dict[str, str]:
    """`NAME='value'` a line; comments and empty lines are skipped."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#") or "=" not in line:
            continue
        name, _, value = line.partition("=")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def _missing_key(key: str, kind: str, pod: Pod, name: str) -> StartFailed:
    return StartFailed(Reason.CONFIG, f"couldn't find key {key} in {kind} {pod.metadata.namespace}/{name}")


def _config_map(pod: Pod, name: str, optional: bool, sources: Sources) -> ConfigMap | None:
    found = sources.config_map(pod.metadata.namespace, name)
    if found is None and not optional:
        raise StartFailed(Reason.CONFIG, f'configmap "{name}" not found')
    return found


def _secret(pod: Pod, name: str, optional: bool, sources: Sources) -> Secret | None:
    found = sources.secret(pod.metadata.namespace, name)
    if found is None and not optional:
        raise StartFailed(Reason.CONFIG, f'secret "{name}" not found')
    return found


# Services.


def service_env(services: Iterable[Service], namespace: str, links: bool) -> dict[str, str]:
    """Variables of the services a pod sees. Those of its own namespace win over `kubernetes` of the default one."""
    visible: dict[str, Service] = {}
    for service in services:
        name, home = service.metadata.name, service.metadata.namespace
        if service.spec.clusterIP in (None, "", "None"):
            continue
        is_api = home == "default" and name == "kubernetes"
        if home == namespace and (links or is_api):
            visible[name] = service
        elif is_api:
            visible.setdefault(name, service)
    values: dict[str, str] = {}
    for name in sorted(visible):
        values.update(_one_service(visible[name]))
    return values


def _one_service(service: Service) -> dict[str, str]:
    host = service.spec.clusterIP or ""
    name = _variable_name(service.metadata.name)
    ports = service.spec.ports
    values = {f"{name}_SERVICE_HOST": host}
    if not ports:
        return values
    values[f"{name}_SERVICE_PORT"] = str(ports[0].port)
    for port in ports:
        if port.name:
            values[f"{name}_SERVICE_PORT_{_variable_name(port.name)}"] = str(port.port)
    # As Docker's container links were, which images still read.
    shown = f"[{host}]" if ":" in host else host
    for index, port in enumerate(ports):
        protocol = (port.protocol or "TCP").lower()
        url = f"{protocol}://{shown}:{port.port}"
        prefix = f"{name}_PORT_{port.port}_{protocol.upper()}"
        if index == 0:
            values[f"{name}_PORT"] = url
        values[prefix] = url
        values[f"{prefix}_PROTO"] = protocol
        values[f"{prefix}_PORT"] = str(port.port)
        values[f"{prefix}_ADDR"] = host
    return values


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()


# What to fetch before.


def references(container: AnyContainer) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets a container's environment reads."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.envFrom:
        if source.configMapRef:
            config_maps.add(source.configMapRef.name or "")
        if source.secretRef:
            secrets.add(source.secretRef.name or "")
    for variable in container.env:
        if variable.valueFrom and variable.valueFrom.configMapKeyRef:
            config_maps.add(variable.valueFrom.configMapKeyRef.name or "")
        if variable.valueFrom and variable.valueFrom.secretKeyRef:
            secrets.add(variable.valueFrom.secretKeyRef.name or "")
    return config_maps, secrets
