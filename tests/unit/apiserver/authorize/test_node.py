from __future__ import annotations

import pytest

from kybern.api import codec, core_v1
from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.storage_v1 import VolumeAttachment, VolumeAttachmentSpec
from kybern.apiserver.authorize.attributes import Attributes, Decision
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User
from kybern.testing.objects import ObjectTable

KUBELET = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
OTHER = User("system:node:n2", groups=("system:nodes", "system:authenticated"))


def pod(node: str = "n1", **meta: object) -> Pod:
    spec = core_v1.PodSpec(
        nodeName=node,
        serviceAccountName="robot",
        imagePullSecrets=[core_v1.LocalObjectReference(name="pull")],
        containers=[
            core_v1.Container(
                name="c",
                env=[
                    core_v1.EnvVar(
                        name="A",
                        valueFrom=core_v1.EnvVarSource(secretKeyRef=core_v1.SecretKeySelector(name="env", key="k")),
                    ),
                    core_v1.EnvVar(
                        name="B",
                        valueFrom=core_v1.EnvVarSource(
                            configMapKeyRef=core_v1.ConfigMapKeySelector(name="env", key="k")
                        ),
                    ),
                ],
                envFrom=[core_v1.EnvFromSource(secretRef=core_v1.SecretEnvSource(name="from"))],
            )
        ],
        volumes=[
            core_v1.Volume(name="v", secret=core_v1.SecretVolumeSource(secretName="volume")),
            core_v1.Volume(
                name="p",
                projected=core_v1.ProjectedVolumeSource(
                    sources=[
                        core_v1.VolumeProjection(secret=core_v1.SecretProjection(name="projected")),
                        core_v1.VolumeProjection(configMap=core_v1.ConfigMapProjection(name="root-ca")),
                    ]
                ),
            ),
            core_v1.Volume(name="d", persistentVolumeClaim=core_v1.PersistentVolumeClaimVolumeSource(claimName="data")),
            core_v1.Volume(name="scratch", ephemeral=core_v1.EphemeralVolumeSource()),
            core_v1.Volume(
                name="csi",
                csi=core_v1.CSIVolumeSource(nodePublishSecretRef=core_v1.LocalObjectReference(name="publish")),
            ),
        ],
    )
    return Pod(metadata=ObjectMeta(**{"name": "p", "namespace": "ns", **meta}), spec=spec)  # type: ignore[arg-type]


def table() -> ObjectTable:
    claim = PersistentVolumeClaim(
        metadata=ObjectMeta(name="data", namespace="ns"), spec=core_v1.PersistentVolumeClaimSpec(volumeName="disk")
    )
    volume = PersistentVolume(
        metadata=ObjectMeta(name="disk"),
        spec=core_v1.PersistentVolumeSpec(
            claimRef=core_v1.ObjectReference(namespace="ns", name="data"),
            csi=core_v1.CSIPersistentVolumeSource(
                nodeStageSecretRef=core_v1.SecretReference(name="stage", namespace="vault")
            ),
        ),
    )
    attachment = VolumeAttachment(metadata=ObjectMeta(name="at"), spec=VolumeAttachmentSpec(nodeName="n1"))
    return ObjectTable(pod(), claim, volume, attachment)


def ask(user: User = KUBELET, objects: ObjectTable | None = None, **attributes: object) -> Decision:
    return Authorizers(objects or table()).authorize(user, Attributes(**attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        *(("secrets", n) for n in ("pull", "env", "from", "volume", "projected", "publish")),
        *(("configmaps", n) for n in ("env", "root-ca")),
        *(("persistentvolumeclaims", n) for n in ("data", "p-scratch")),
        ("serviceaccounts", "robot"),
    ],
)
def test_a_node_may_get_what_its_pods_refer_to_and_no_other_node_may(resource: str, name: str) -> None:
    asked = {"verb": "get", "resource": resource, "namespace": "ns", "name": name}
    assert ask(**asked).allowed
    refused = ask(OTHER, **asked)
    assert not refused.allowed
    assert refused.reason == "no relationship found between node 'n2' and this object"
    assert not ask(**{**asked, "namespace": "other"}).allowed
    assert not ask(**{**asked, "name": "unrelated"}).allowed


def test_volumes_and_their_secrets_are_found_through_claims() -> None:
    assert ask(verb="get", resource="persistentvolumes", name="disk").allowed
    assert ask(verb="get", resource="secrets", namespace="vault", name="stage").allowed
    assert not ask(OTHER, verb="get", resource="persistentvolumes", name="disk").allowed
    assert not ask(OTHER, verb="get", resource="secrets", namespace="vault", name="stage").allowed


def test_secrets_cannot_be_listed_without_a_name() -> None:
    assert not ask(verb="list", resource="secrets", namespace="ns").allowed
    assert not ask(verb="list", resource="secrets").allowed
    assert ask(verb="watch", resource="secrets", namespace="ns", name="pull").allowed
    assert not ask(verb="update", resource="secrets", namespace="ns", name="pull").allowed


def test_access_ends_with_the_pod() -> None:
    objects = table()
    authorizers = Authorizers(objects)
    asked = Attributes("get", resource="configmaps", namespace="ns", name="root-ca")
    assert authorizers.authorize(KUBELET, asked).allowed
    assert authorizers.authorize(KUBELET, asked).allowed
    objects.remove("pods", "ns", "p")
    assert not authorizers.authorize(KUBELET, asked).allowed


def test_access_moves_with_a_pod_of_the_same_name() -> None:
    objects = table()
    authorizers = Authorizers(objects)
    asked = Attributes("get", resource="configmaps", namespace="ns", name="root-ca")
    assert authorizers.authorize(KUBELET, asked).allowed
    objects.remove("pods", "ns", "p")
    objects.put(pod("n2", uid="new"))
    assert not authorizers.authorize(KUBELET, asked).allowed
    assert authorizers.authorize(OTHER, asked).allowed


def test_a_mirror_pod_gives_access_to_nothing() -> None:
    mirror = pod(annotations={"kubernetes.io/config.mirror": "x"})
    asked = {"verb": "get", "resource": "secrets", "namespace": "ns", "name": "volume"}
    assert not ask(objects=ObjectTable(mirror), **asked).allowed


def test_tokens_are_made_for_accounts_of_pods_on_the_node() -> None:
    asked = {"verb": "create", "resource": "serviceaccounts", "subresource": "token", "namespace": "ns"}
    assert ask(**asked, name="robot").allowed
    assert not ask(**asked, name="default").allowed
    assert not ask(OTHER, **asked, name="robot").allowed


def test_pods_are_listed_by_node_only() -> None:
    own = (("spec.nodeName", "=", "n1"),)
    assert ask(verb="list", resource="pods", fields=own).allowed
    assert ask(verb="watch", resource="pods", fields=own).allowed
    assert not ask(verb="list", resource="pods").allowed
    assert not ask(verb="list", resource="pods", fields=(("spec.nodeName", "!=", "n1"),)).allowed
    assert not ask(OTHER, verb="list", resource="pods", fields=own).allowed
    assert ask(verb="get", resource="pods", namespace="ns", name="p").allowed
    assert not ask(OTHER, verb="get", resource="pods", namespace="ns", name="p").allowed
    assert ask(verb="update", resource="pods", subresource="status", namespace="ns", name="p").allowed
    assert not ask(verb="update", resource="pods", namespace="ns", name="p").allowed


def test_a_node_reads_itself() -> None:
    assert ask(verb="get", resource="nodes", name="n1").allowed
    assert ask(verb="list", resource="nodes", name="n1").allowed
    assert not ask(verb="get", resource="nodes", name="n2").allowed
    assert not ask(verb="list", resource="nodes").allowed
    assert ask(verb="create", resource="nodes").allowed
    assert ask(verb="patch", resource="nodes", subresource="status", name="n1").allowed
    assert not ask(verb="delete", resource="nodes", name="n1").allowed


def test_leases_and_csi_nodes_are_the_nodes_own() -> None:
    lease = {"group": "coordination.k8s.io", "resource": "leases", "namespace": "kube-node-lease"}
    assert ask(verb="update", name="n1", **lease).allowed
    assert ask(verb="create", **lease).allowed
    assert not ask(verb="update", name="n2", **lease).allowed
    assert not ask(verb="list", **lease).allowed
    assert not ask(verb="get", name="n1", **{**lease, "namespace": "kube-system"}).allowed
    csi = {"group": "storage.k8s.io", "resource": "csinodes"}
    assert ask(verb="get", name="n1", **csi).allowed
    assert not ask(verb="get", name="n2", **csi).allowed


def test_attachments_are_read_by_their_node() -> None:
    asked = {"verb": "get", "group": "storage.k8s.io", "resource": "volumeattachments", "name": "at"}
    assert ask(**asked).allowed
    assert not ask(OTHER, **asked).allowed


@pytest.mark.parametrize(
    "asked",
    [
        {"verb": "list", "resource": "services"},
        {"verb": "create", "resource": "events", "namespace": "ns"},
        {"verb": "create", "resource": "events", "group": "events.k8s.io", "namespace": "ns"},
        {"verb": "watch", "group": "node.k8s.io", "resource": "runtimeclasses"},
        {"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"},
        {"verb": "create", "group": "authorization.k8s.io", "resource": "subjectaccessreviews"},
        {"verb": "create", "group": "certificates.k8s.io", "resource": "certificatesigningrequests"},
    ],
)
def test_what_every_node_may(asked: dict[str, str]) -> None:
    assert ask(**asked).allowed


def test_others_are_not_nodes() -> None:
    asked = {"verb": "get", "resource": "secrets", "namespace": "ns", "name": "pull"}
    assert not ask(User("system:node:n1"), **asked).allowed
    assert not ask(User("eve", groups=("system:nodes",)), **asked).allowed


def test_objects_are_not_changed_by_asking() -> None:
    objects = table()
    before = codec.encode(objects.list("pods"))
    ask(objects=objects, verb="get", resource="secrets", namespace="ns", name="pull")
    assert codec.encode(objects.list("pods")) == before
