"""The checks of the Pod Security Standards: what a pod does that the baseline or restricted level forbids. Pure.

Read by pod_security. Each check looks at the pod's metadata and spec and answers None or what it found, in upstream's
words. A level of an older version knows only the checks (and allowances) of its time.
Source: "Pod Security Standards" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kybern.api.core_v1 import Container, EphemeralContainer, PodSpec, Probe, SecurityContext, Volume
from kybern.api.meta_v1 import ObjectMeta

AnyContainer = Container | EphemeralContainer
LATEST = 1_000_000  # a minor version later than all
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_EMPTY = SecurityContext()
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
# Name -> the minor version since which it is safe.
_SYSCTLS = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}
_SELINUX_TYPES = {
    "": 0, "container_t": 0, "container_init_t": 0, "container_kvm_t": 0, "container_engine_t": 31,
}  # fmt: skip
_RESTRICTED_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`reason (detail)`."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Subject:
    """A pod, or the template of one."""

    meta: ObjectMeta
    spec: PodSpec
    version: int  # minor, of the level

    @property
    def containers(self) -> list[AnyContainer]:
        return [*self.spec.initContainers, *self.spec.containers, *self.spec.ephemeralContainers]

    @property
    def is_windows(self) -> bool:
        """Whose pods cannot do what some checks forbid: since 1.25 they need not say so."""
        return self.version >= 25 and self.spec.os is not None and self.spec.os.name == "windows"

    @property
    def has_own_users(self) -> bool:
        """Root inside a user namespace is nobody outside."""
        return self.version >= 35 and self.spec.hostUsers is False


Check = Callable[[Subject], Finding | None]


def evaluate(level: str, subject: Subject) -> list[Finding]:
    """All that a level finds, in upstream's order."""
    checks = {"baseline": BASELINE, "restricted": RESTRICTED}.get(level, ())
    found = (check(subject) for since, check in checks if subject.version >= since)
    return [f for f in found if f is not None]


# -- baseline ----------------------------------------------------------------------------------------------------------


def _host_namespaces(s: Subject) -> Finding | None:
    used = [n for n in ("hostNetwork", "hostPID", "hostIPC") if getattr(s.spec, n)]
    return Finding("host namespaces", ", ".join(f"{n}=true" for n in used)) if used else None


def _host_path_volumes(s: Subject) -> Finding | None:
    names = [v.name for v in s.spec.volumes if v.hostPath is not None]
    return Finding("hostPath volumes", _plural("volume", names)) if names else None


def _host_ports(s: Subject) -> Finding | None:
    users = [c for c in s.containers if any(p.hostPort for p in c.ports)]
    ports = sorted({str(p.hostPort) for c in users for p in c.ports if p.hostPort})
    if not users:
        return None
    verb = "use" if len(users) > 1 else "uses"
    word = "hostPorts" if len(ports) > 1 else "hostPort"
    return Finding("hostPort", f"{_containers(users)} {verb} {word} {', '.join(ports)}")


def _host_probes(s: Subject) -> Finding | None:
    users, hosts = [], set()
    for container in s.containers:
        found = set(_probe_hosts(container))
        if found:
            users.append(container)
            hosts |= found
    if not users:
        return None
    verb = "use" if len(users) > 1 else "uses"
    word = "hosts" if len(hosts) > 1 else "host"
    return Finding(
        "probe or lifecycle host", f"{_containers(users)} {verb} probe or lifecycle {word} {_quoted(sorted(hosts))}"
    )


def _probe_hosts(container: AnyContainer) -> Iterable[str]:
    actions: list[Probe | object | None] = [container.livenessProbe, container.readinessProbe, container.startupProbe]
    if container.lifecycle is not None:
        actions += [container.lifecycle.postStart, container.lifecycle.preStop]
    for action in actions:
        for handler in (getattr(action, "httpGet", None), getattr(action, "tcpSocket", None)):
            if handler is not None and handler.host:
                yield handler.host


def _privileged(s: Subject) -> Finding | None:
    bad = [c for c in s.containers if _context(c).privileged]
    return Finding("privileged", f"{_containers(bad)} must not set securityContext.privileged=true") if bad else None


def _baseline_capabilities(s: Subject) -> Finding | None:
    bad = [c for c in s.containers if _added(c) - _CAPABILITIES]
    if not bad:
        return None
    names = _quoted(sorted({n for c in bad for n in _added(c) - _CAPABILITIES}))
    detail = f"{_containers(bad)} must not include {names} in securityContext.capabilities.add"
    return Finding("non-default capabilities", detail)


def _proc_mount(s: Subject) -> Finding | None:
    return None if s.has_own_users else _restricted_proc_mount(s)


def _selinux(s: Subject) -> Finding | None:
    types: set[str] = set()
    users: list[AnyContainer] = []
    faults: dict[str, None] = {}
    pod_is_bad = False
    pod_options = s.spec.securityContext.seLinuxOptions if s.spec.securityContext else None
    for holder, options in [(None, pod_options), *((c, _context(c).seLinuxOptions) for c in s.containers)]:
        if options is None:
            continue
        bad = False
        if _SELINUX_TYPES.get(options.type or "", LATEST + 1) > s.version:
            types.add(options.type or "")
            bad = True
        for field in ("user", "role"):
            if getattr(options, field):
                faults[f"{field} may not be set"] = None
                bad = True
        if bad and holder is None:
            pod_is_bad = True
        elif bad and holder is not None:
            users.append(holder)
    if not pod_is_bad and not users:
        return None
    shown = [f"type{'s' if len(types) > 1 else ''} {_quoted(sorted(types))}"] if types else []
    shown += [f for f in ("user may not be set", "role may not be set") if f in faults]
    who = _pod_and_containers(pod_is_bad, users)
    return Finding("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(shown)}")


def _app_armor(s: Subject) -> Finding | None:
    pod_profile = s.spec.securityContext.appArmorProfile if s.spec.securityContext else None
    pod_is_bad = pod_profile is not None and pod_profile.type == "Unconfined"
    bad = [c for c in s.containers if (p := _context(c).appArmorProfile) is not None and p.type == "Unconfined"]
    annotated = sorted(
        f"{key}={_quote(value)}"
        for key, value in s.meta.annotations.items()
        if key.startswith(_APPARMOR) and not (value in ("", "runtime/default") or value.startswith("localhost/"))
    )
    if not (pod_is_bad or bad or annotated):
        return None
    who = [_pod_and_containers(pod_is_bad, bad)] if pod_is_bad or bad else []
    who += ["annotations" if len(annotated) > 1 else "annotation"] if annotated else []
    values = (['"Unconfined"'] if pod_is_bad or bad else []) + [f'"{a}"' for a in annotated]
    reason = "forbidden AppArmor profile" + ("s" if len(values) > 1 else "")
    return Finding(reason, f"{' and '.join(who)} must not set AppArmor profile type to {', '.join(values)}")


def _baseline_seccomp(s: Subject) -> Finding | None:
    pod_is_bad = _pod_seccomp(s) == "Unconfined"
    bad = [c for c in s.containers if _seccomp(c) == "Unconfined"]
    if not pod_is_bad and not bad:
        return None
    detail = f'{_pod_and_containers(pod_is_bad, bad)} must not set securityContext.seccompProfile.type to "Unconfined"'
    return Finding("seccompProfile", detail)


def _sysctls(s: Subject) -> Finding | None:
    asked = s.spec.securityContext.sysctls if s.spec.securityContext else []
    bad = [c.name for c in asked if _SYSCTLS.get(c.name, LATEST + 1) > s.version]
    return Finding("forbidden sysctls", ", ".join(bad)) if bad else None


def _host_process(s: Subject) -> Finding | None:
    options = s.spec.securityContext.windowsOptions if s.spec.securityContext else None
    pod_is_bad = options is not None and bool(options.hostProcess)
    bad = [c for c in s.containers if (w := _context(c).windowsOptions) is not None and w.hostProcess]
    if not pod_is_bad and not bad:
        return None
    who = _pod_and_containers(pod_is_bad, bad)
    return Finding("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true")


# -- restricted --------------------------------------------------------------------------------------------------------


def _privilege_escalation(s: Subject) -> Finding | None:
    if s.is_windows:
        return None
    bad = [c for c in s.containers if _context(c).allowPrivilegeEscalation is not False]
    detail = f"{_containers(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail) if bad else None


def _restricted_capabilities(s: Subject) -> Finding | None:
    if s.is_windows:
        return None
    keep = [c for c in s.containers if "ALL" not in _dropped(c)]
    add = [c for c in s.containers if _added(c) - {"NET_BIND_SERVICE"}]
    details = []
    if keep:
        details.append(f'{_containers(keep)} must set securityContext.capabilities.drop=["ALL"]')
    if add:
        names = _quoted(sorted({n for c in add for n in _added(c) - {"NET_BIND_SERVICE"}}))
        details.append(f"{_containers(add)} must not include {names} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def _restricted_proc_mount(s: Subject) -> Finding | None:
    bad = [c for c in s.containers if _context(c).procMount not in (None, "Default")]
    if not bad:
        return None
    values = _quoted(sorted({_context(c).procMount or "" for c in bad}))
    return Finding("procMount", f"{_containers(bad)} must not set securityContext.procMount to {values}")


def _restricted_volumes(s: Subject) -> Finding | None:
    bad = [(v.name, source) for v in s.spec.volumes if (source := _source_of(v)) not in _RESTRICTED_VOLUMES]
    if not bad:
        return None
    kinds = sorted({source for _, source in bad})
    verb = "use" if len(bad) > 1 else "uses"
    word = "types" if len(kinds) > 1 else "type"
    detail = f"{_plural('volume', [n for n, _ in bad])} {verb} restricted volume {word} {_quoted(kinds)}"
    return Finding("restricted volume types", detail)


def _run_as_non_root(s: Subject) -> Finding | None:
    if s.has_own_users:
        return None
    of_pod = s.spec.securityContext.runAsNonRoot if s.spec.securityContext else None
    bad = [c for c in s.containers if _context(c).runAsNonRoot is False]
    if of_pod is False or bad:
        who = _pod_and_containers(of_pod is False, bad)
        return Finding("runAsNonRoot != true", f"{who} must not set securityContext.runAsNonRoot=false")
    silent = [c for c in s.containers if _context(c).runAsNonRoot is None]
    if of_pod is None and silent:
        detail = f"pod or {_containers(silent)} must set securityContext.runAsNonRoot=true"
        return Finding("runAsNonRoot != true", detail)
    return None


def _run_as_user(s: Subject) -> Finding | None:
    if s.has_own_users:
        return None
    pod_is_bad = s.spec.securityContext is not None and s.spec.securityContext.runAsUser == 0
    bad = [c for c in s.containers if _context(c).runAsUser == 0]
    if not pod_is_bad and not bad:
        return None
    return Finding("runAsUser=0", f"{_pod_and_containers(pod_is_bad, bad)} must not set runAsUser=0")


def _restricted_seccomp(s: Subject) -> Finding | None:
    if s.is_windows:
        return None
    of_pod = _pod_seccomp(s)
    pod_is_bad = of_pod not in ("", "RuntimeDefault", "Localhost")
    bad = [c for c in s.containers if _seccomp(c) not in ("", "RuntimeDefault", "Localhost")]
    if pod_is_bad or bad:
        values = {of_pod} if pod_is_bad else set()
        values |= {_seccomp(c) for c in bad}
        detail = f"must not set securityContext.seccompProfile.type to {_quoted(sorted(values))}"
        return Finding("seccompProfile", f"{_pod_and_containers(pod_is_bad, bad)} {detail}")
    silent = [c for c in s.containers if not _seccomp(c)]
    if of_pod or not silent:
        return None
    detail = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", f"pod or {_containers(silent)} {detail}")


# The minor version since which a check counts, and the check, in upstream's order of messages.
BASELINE: Sequence[tuple[int, Check]] = (
    (0, _app_armor),
    (0, _baseline_capabilities),
    (0, _host_namespaces),
    (0, _host_path_volumes),
    (0, _host_ports),
    (34, _host_probes),
    (0, _privileged),
    (0, _proc_mount),
    (0, _selinux),
    (19, _baseline_seccomp),
    (0, _sysctls),
    (0, _host_process),
)
# What the restricted level judges more strictly replaces the baseline's check.
RESTRICTED: Sequence[tuple[int, Check]] = (
    (0, _app_armor),
    (0, _host_namespaces),
    (0, _host_ports),
    (34, _host_probes),
    (0, _privileged),
    (0, _selinux),
    (0, _sysctls),
    (0, _host_process),
    (8, _privilege_escalation),
    (22, _restricted_capabilities),
    (0, _restricted_proc_mount),
    (0, _restricted_volumes),
    (0, _run_as_non_root),
    (23, _run_as_user),
    (19, _restricted_seccomp),
)


# -- what a pod says ---------------------------------------------------------------------------------------------------


def _context(container: AnyContainer) -> SecurityContext:
    return container.securityContext or _EMPTY


def _added(container: AnyContainer) -> set[str]:
    capabilities = _context(container).capabilities
    return set(capabilities.add) if capabilities else set()


def _dropped(container: AnyContainer) -> list[str]:
    capabilities = _context(container).capabilities
    return capabilities.drop if capabilities else []


def _seccomp(container: AnyContainer) -> str:
    profile = _context(container).seccompProfile
    return profile.type if profile else ""


def _pod_seccomp(s: Subject) -> str:
    context = s.spec.securityContext
    return context.seccompProfile.type if context and context.seccompProfile else ""


def _source_of(volume: Volume) -> str:
    fields = (f for f in volume.__struct_fields__ if f != "name" and getattr(volume, f) is not None)
    return next(fields, "unknown")


# -- how it is said ----------------------------------------------------------------------------------------------------


def _containers(containers: Sequence[AnyContainer]) -> str:
    return _plural("container", [c.name for c in containers])


def _pod_and_containers(pod: bool, containers: Sequence[AnyContainer]) -> str:
    return " and ".join((["pod"] if pod else []) + ([_containers(containers)] if containers else []))


def _plural(word: str, names: Sequence[str]) -> str:
    return f"{word}{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(_quote(n) for n in names)


def _quote(text: str) -> str:
    return f'"{text}"'
