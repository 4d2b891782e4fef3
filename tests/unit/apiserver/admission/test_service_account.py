from __future__ import annotations

from typing import Any

import pytest

from kybern.api import codec, core_v1
from kybern.api.core_v1 import Container, LocalObjectReference, ServiceAccount, VolumeMount
from kybern.api.meta_v1 import ObjectMeta
from kybern.testing.gate import Gate, pod

PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def account(name: str = "robot", **fields: Any) -> ServiceAccount:
    return ServiceAccount(metadata=ObjectMeta(name=name, namespace="ns"), **fields)


def test_a_pod_gets_the_default_account_and_its_token() -> None:
    made = Gate().create(pod(Container(name="a"), Container(name="b"), initContainers=[Container(name="i")]))
    assert (made.spec.serviceAccountName, made.spec.serviceAccount) == ("default", "default")
    (volume,) = made.spec.volumes
    assert volume.name.startswith("kube-api-access-")
    assert len(volume.name) == len("kube-api-access-") + 5
    assert codec.to_json(volume.projected) == {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {
                "downwardAPI": {
                    "items": [
                        {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}
                    ]
                }
            },
        ],
    }
    for container in (*made.spec.containers, *made.spec.initContainers):
        (mount,) = container.volumeMounts
        assert (mount.name, mount.mountPath, mount.readOnly) == (volume.name, PATH, True)


def test_a_missing_account_is_told() -> None:
    gate = Gate()
    assert gate.refusal(gate.create, pod(serviceAccountName="zz")) == (
        'pods "p" is forbidden: error looking up service account ns/zz: serviceaccount "zz" not found'
    )


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False), (False, None, False)],
)
def test_the_pods_word_about_its_token_counts_before_the_accounts(
    of_pod: bool | None, of_account: bool | None, mounted: bool
) -> None:
    gate = Gate()
    gate.objects.put(account(automountServiceAccountToken=of_account))
    made = gate.create(pod(serviceAccountName="robot", automountServiceAccountToken=of_pod))
    assert bool(made.spec.volumes) == mounted


def test_a_container_that_mounts_something_there_keeps_it() -> None:
    own = Container(name="a", volumeMounts=[VolumeMount(name="mine", mountPath=PATH)])
    made = Gate().create(pod(own, volumes=[core_v1.Volume(name="mine", emptyDir=core_v1.EmptyDirVolumeSource())]))
    assert [v.name for v in made.spec.volumes] == ["mine"]
    assert [m.name for m in made.spec.containers[0].volumeMounts] == ["mine"]


def test_a_pod_admitted_twice_gets_one_token() -> None:
    gate = Gate()
    once = gate.create(pod())
    assert gate.create(once).spec.volumes == once.spec.volumes


def test_pull_secrets_come_from_the_account_unless_the_pod_has_its_own() -> None:
    gate = Gate()
    gate.objects.put(account(imagePullSecrets=[LocalObjectReference(name="registry")]))
    made = gate.create(pod(serviceAccountName="robot"))
    assert [s.name for s in made.spec.imagePullSecrets] == ["registry"]
    own = pod(serviceAccountName="robot", imagePullSecrets=[LocalObjectReference(name="own")])
    assert [s.name for s in gate.create(own).spec.imagePullSecrets] == ["own"]


def mirror(**spec: Any) -> core_v1.Pod:
    made = pod(**spec)
    made.metadata.annotations["kubernetes.io/config.mirror"] = "x"
    return made


def test_a_mirror_pod_is_left_as_it_is() -> None:
    made = Gate().create(mirror())
    assert not made.spec.volumes
    assert made.spec.serviceAccountName is None


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        (
            {"imagePullSecrets": [LocalObjectReference(name="s")]},
            "a mirror pod may not reference secrets",
        ),
    ],
)
def test_a_mirror_pod_may_ask_for_nothing(spec: dict[str, Any], why: str) -> None:
    gate = Gate()
    assert gate.refusal(gate.create, mirror(**spec)) == f'pods "p" is forbidden: {why}'


def test_a_restricted_account_mounts_only_its_own_secrets() -> None:
    gate = Gate()
    limited = account(secrets=[core_v1.ObjectReference(name="own")])
    limited.metadata.annotations["kubernetes.io/enforce-mountable-secrets"] = "true"
    gate.objects.put(limited)

    def using(name: str) -> core_v1.Pod:
        volume = core_v1.Volume(name="v", secret=core_v1.SecretVolumeSource(secretName=name))
        return pod(serviceAccountName="robot", volumes=[volume])

    gate.create(using("own"))
    assert gate.refusal(gate.create, using("other")) == (
        'pods "p" is forbidden: secret "other" is not listed as mountable by service account "robot"'
    )
