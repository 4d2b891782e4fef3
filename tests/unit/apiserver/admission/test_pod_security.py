from __future__ import annotations

from typing import Any

import pytest

from kybern.api import codec
from kybern.api.apps_v1 import Deployment
from kybern.api.core_v1 import Namespace, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.machinery.status import ApiError
from kybern.testing.gate import Gate

GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
ALMOST = {k: v for k, v in GOOD.items() if k != "runAsNonRoot"}


def label(gate: Gate, **labels: str) -> Namespace:
    namespace = codec.clone(gate.objects.get("namespaces", "", "ns"))
    named = {f"pod-security.kubernetes.io/{k.replace('_', '-')}": v for k, v in labels.items()}
    namespace.metadata.labels = named
    stored: Namespace = gate.objects.put(namespace)
    return stored


def pod(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> Pod:
    whole = {"containers": [{"name": "p", "image": "x"}], **spec}
    made, unknown = codec.from_json(
        Pod, {"metadata": {"name": "p", "namespace": "ns", "annotations": annotations or {}}, "spec": whole}
    )
    assert not unknown
    return made


def one(**context: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "x", "securityContext": context}]}


def many(**contexts: dict[str, Any]) -> dict[str, Any]:
    return {"containers": [{"name": n, "image": "x", "securityContext": c} for n, c in contexts.items()]}


# The texts are those of kube-apiserver 1.36 for the same pods.
RESTRICTED = [
    ({**one(**GOOD)}, ""),
    (
        {},
        ('allowPrivilegeEscalation != false (container "p" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "p" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "p" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "p" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")'),
    ),
    (
        {**many(a={}, b={}), "initContainers": [{"name": "i", "image": "x"}]},
        ('allowPrivilegeEscalation != false (containers "i", "a", "b" must set '
        "securityContext.allowPrivilegeEscalation=false), "
        'unrestricted capabilities (containers "i", "a", "b" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or containers "i", "a", "b" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or containers "i", "a", "b" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")'),
    ),
    ({"securityContext": {"runAsUser": 0}, **one(**GOOD)}, "runAsUser=0 (pod must not set runAsUser=0)"),
    (
        one(
            runAsUser=0,
            runAsNonRoot=False,
            allowPrivilegeEscalation=True,
            capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]},
            seccompProfile={"type": "Unconfined"},
        ),
        ('allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add), '
        'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false), '
        'runAsUser=0 (container "a" must not set runAsUser=0), '
        'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")'),
    ),
    (
        {
            **one(**GOOD),
            "volumes": [
                {"name": "n", "nfs": {"server": "a", "path": "/"}},
                {"name": "g", "gitRepo": {"repository": "x"}},
                {"name": "h", "hostPath": {"path": "/"}},
            ],
        },
        'restricted volume types (volumes "n", "g", "h" use restricted volume types "gitRepo", "hostPath", "nfs")',
    ),
    (
        {**one(**GOOD), "volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
        'restricted volume types (volume "v" uses restricted volume type "hostPath")',
    ),
    ({**one(**GOOD), "volumes": [{"name": "v", "csi": {"driver": "a"}}, {"name": "i", "image": {}}]}, ""),
    (
        {
            "securityContext": {"runAsNonRoot": False, "seccompProfile": {"type": "Unconfined"}},
            **one(allowPrivilegeEscalation=False, capabilities={"drop": ["ALL"]}),
        },
        ("runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), "
        'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
    ),
    (
        {"hostUsers": False, **one(procMount="Unmasked", **ALMOST)},
        'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
    ),
    ({"os": {"name": "windows"}, **one(runAsNonRoot=True)}, ""),
    ({"hostUsers": False, "securityContext": {"runAsUser": 0, "runAsNonRoot": False}, **one(**ALMOST)}, ""),
    (
        {"securityContext": {"runAsNonRoot": True}, **many(a={**GOOD, "runAsNonRoot": False}, b=ALMOST)},
        'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
    ),
    (
        {"securityContext": {"runAsNonRoot": False}, **one(**GOOD)},
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
    ),
    (
        {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
         **one(allowPrivilegeEscalation=False, capabilities={"add": ["SYS_TIME", "CHOWN"]})},
        ('unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
        'container "a" must not include "CHOWN", "SYS_TIME" in securityContext.capabilities.add)'),
    ),
]  # fmt: skip

UNCONFINED = {"appArmorProfile": {"type": "Unconfined"}}
BASELINE = [
    ({}, ""),
    (
        {"hostNetwork": True, "hostPID": True, "hostIPC": True},
        "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
    ),
    (
        many(a={"privileged": True}, b={"privileged": True}),
        'privileged (containers "a", "b" must not set securityContext.privileged=true)',
    ),
    (
        many(a={"capabilities": {"add": ["NET_ADMIN", "SYS_TIME", "CHOWN"]}}, b={"capabilities": {"add": ["NET_RAW"]}}),
        ('non-default capabilities (containers "a", "b" must not include "NET_ADMIN", "NET_RAW", "SYS_TIME" in '
        "securityContext.capabilities.add)"),
    ),
    (
        {"volumes": [{"name": n, "hostPath": {"path": "/"}} for n in "hi"]},
        'hostPath volumes (volumes "h", "i")',
    ),
    (
        {
            "containers": [
                {"name": "a", "ports": [{"containerPort": p, "hostPort": p} for p in (80, 81)]},
                {"name": "b", "ports": [{"containerPort": 82, "hostPort": 82}]},
            ]
        },
        'hostPort (containers "a", "b" use hostPorts 80, 81, 82)',
    ),
    (
        {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
        'hostPort (container "a" uses hostPort 80)',
    ),
    (
        {
            "containers": [
                {
                    "name": "a",
                    "livenessProbe": {"httpGet": {"host": "1.2.3.4", "port": 80}},
                    "lifecycle": {"postStart": {"httpGet": {"host": "a.b", "port": 8}}},
                }
            ]
        },
        'probe or lifecycle host (container "a" uses probe or lifecycle hosts "1.2.3.4", "a.b")',
    ),
    (
        one(**UNCONFINED),
        'forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")',
    ),
    (
        {"securityContext": UNCONFINED, **many(a=UNCONFINED, b=UNCONFINED)},
        'forbidden AppArmor profile (pod and containers "a", "b" must not set AppArmor profile type to "Unconfined")',
    ),
    (
        {
            "securityContext": {"seLinuxOptions": {"type": "foo", "user": "u"}},
            **one(seLinuxOptions={"type": "bar", "role": "r"}),
        },
        ('seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: types "bar", "foo"; '
        "user may not be set; role may not be set)"),
    ),
    (
        {
            "securityContext": {"seLinuxOptions": {"type": "container_engine_t"}},
            **one(seLinuxOptions={"user": "u"}),
        },
        'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: user may not be set)',
    ),
    ({"hostUsers": False, **one(procMount="Unmasked")}, ""),
    (one(procMount="Unmasked"), 'procMount (container "a" must not set securityContext.procMount to "Unmasked")'),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}, **one(seccompProfile={"type": "Unconfined"})},
        'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        {
            "securityContext": {
                "sysctls": [
                    {"name": n, "value": "1"}
                    for n in ("kernel.msgmax", "net.ipv4.tcp_syncookies", "net.core.somaxconn", "net.ipv4.tcp_rmem")
                ]
            }
        },
        "forbidden sysctls (kernel.msgmax, net.core.somaxconn)",
    ),
    (
        {
            "hostNetwork": True,
            "securityContext": {"windowsOptions": {"hostProcess": True}},
            **one(windowsOptions={"hostProcess": True}),
        },
        ("host namespaces (hostNetwork=true), hostProcess (pod and container \"a\" must not set "
        "securityContext.windowsOptions.hostProcess=true)"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "spec", "why"),
    [*(("restricted", s, w) for s, w in RESTRICTED), *(("baseline", s, w) for s, w in BASELINE)],
)
def test_levels(level: str, spec: dict[str, Any], why: str) -> None:
    gate = Gate()
    label(gate, enforce=level)
    refused = gate.refusal(gate.create, pod(spec))
    assert refused == (f'pods "p" is forbidden: violates PodSecurity "{level}:latest": {why}' if why else "")
    label(gate, enforce="privileged")
    assert not gate.refusal(gate.create, pod(spec))


def test_an_annotation_of_old_counts_as_a_profile() -> None:
    gate = Gate()
    label(gate, enforce="baseline")
    made = pod({}, {"container.apparmor.security.beta.kubernetes.io/p": "unconfined"})
    assert gate.refusal(gate.create, made).endswith('apparmor.security.beta.kubernetes.io/p="unconfined"")')


def test_without_labels_everything_goes() -> None:
    Gate().create(pod({"hostPID": True, **one(privileged=True)}))


def test_an_older_version_knows_fewer_checks() -> None:
    gate = Gate()
    label(gate, enforce="restricted", enforce_version="v1.20")
    refused = gate.refusal(gate.create, pod({}))
    assert 'PodSecurity "restricted:v1.20"' in refused
    assert "capabilities" not in refused
    label(gate, enforce="baseline", enforce_version="v1.31")
    assert "tcp_rmem" in gate.refusal(
        gate.create, pod({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}})
    )


def warnings_of(gate: Gate, obj: Any, old: Any = None) -> list[str]:
    a = gate.attributes("UPDATE" if old else "CREATE", obj, old)
    gate.chain.validate(a)
    return a.warnings


def test_warn_warns_of_pods_and_of_what_makes_them() -> None:
    gate = Gate()
    label(gate, warn="baseline")
    expected = 'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    assert warnings_of(gate, pod({"hostPID": True})) == [expected]
    spec = {"selector": {}, "template": {"spec": {"hostPID": True, "containers": [{"name": "c"}]}}}
    deployment, _ = codec.from_json(Deployment, {"metadata": {"name": "d", "namespace": "ns"}, "spec": spec})
    assert warnings_of(gate, deployment) == [expected]
    label(gate, enforce="baseline")
    assert warnings_of(gate, deployment) == []


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"enforce": "foo"}, "must be one of privileged, baseline, restricted"),
        ({"enforce-version": "v1"}, 'must be "latest" or "v1.x"'),
        ({"warn-version": "x"}, 'must be "latest" or "v1.x"'),
    ],
)
def test_a_label_that_cannot_be_read_is_refused(labels: dict[str, str], why: str) -> None:
    gate = Gate()
    wrong = Namespace(
        metadata=ObjectMeta(name="new", labels={f"pod-security.kubernetes.io/{k}": v for k, v in labels.items()})
    )
    with pytest.raises(ApiError) as raised:
        gate.create(wrong)
    assert raised.value.code == 422
    ((key, value),) = labels.items()
    where = f"metadata.labels[pod-security.kubernetes.io/{key}]"
    assert str(raised.value) == f'Namespace "new" is invalid: {where}: Invalid value: "{value}": {why}'
    gate.update(wrong, wrong)


def test_a_label_that_cannot_be_read_counts_as_the_strictest() -> None:
    gate = Gate()
    label(gate, enforce="foo")
    assert 'violates PodSecurity "restricted:latest"' in gate.refusal(gate.create, pod({}))


def test_a_stricter_namespace_warns_of_the_pods_it_has() -> None:
    gate = Gate()
    old = label(gate, enforce="privileged")
    for name, spec in (("a", {"hostPID": True}), ("b", {"hostPID": True}), ("c", {})):
        made = pod(spec)
        made.metadata.name = name
        gate.objects.put(made)
    new = label(gate, enforce="baseline")
    assert warnings_of(gate, new, old) == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]
    assert warnings_of(gate, new, new) == []


def test_only_updates_that_matter_are_judged() -> None:
    gate = Gate()
    label(gate, enforce="baseline")
    old = pod({"hostPID": True})
    labelled = codec.clone(old)
    labelled.metadata.labels["a"] = "b"
    gate.update(labelled, old)
    debugged, _ = codec.from_json(
        Pod,
        {
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {
                "containers": [],
                "ephemeralContainers": [{"name": "d", "securityContext": {"privileged": True}}],
            },
        },
    )
    refused = gate.refusal(gate.update, debugged, pod({}), subresource="ephemeralcontainers")
    assert 'privileged (container "d" must not set' in refused
