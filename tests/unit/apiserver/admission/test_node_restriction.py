from __future__ import annotations

from typing import Any

import pytest

from kybern.api import codec, core_v1
from kybern.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import Node, NodeSpec, Pod, Taint
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.api.resource_v1 import ResourceSlice, ResourceSliceSpec
from kybern.api.storage_v1 import CSINode
from kybern.apiserver.admission import Attributes
from kybern.apiserver.request import User
from kybern.machinery import scheme
from kybern.machinery.status import ApiError
from kybern.testing.gate import Gate, pod

KUBELET = User("system:node:n1", groups=("system:nodes", "system:authenticated"))


def node(name: str = "n1", taints: list[Taint] | None = None, **labels: str) -> Node:
    given = {k.replace("__", "/").replace("_", "."): v for k, v in labels.items()}
    return Node(metadata=ObjectMeta(name=name, labels=given, uid="u1"), spec=NodeSpec(taints=taints or []))


@pytest.fixture
def gate() -> Gate:
    made = Gate()
    made.objects.put(node())
    made.objects.put(core_v1.Namespace(metadata=ObjectMeta(name="kube-node-lease")))
    return made


# The texts are those of kube-apiserver 1.36 for the same requests.
@pytest.mark.parametrize(
    ("made", "why"),
    [
        (node("n2"), 'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"'),
        (
            node(node_restriction="", **{"node-restriction.kubernetes.io__x": "y", "kubernetes.io__foo": "z"}),
            (
                'nodes "n1" is forbidden: node "n1" is not allowed to set the following labels: '
                "kubernetes.io/foo, node-restriction.kubernetes.io/x"
            ),
        ),
        (node(**{"a.k8s.io__b": "c"}), "a.k8s.io/b"),
        (
            node(
                x="y",
                **{
                    "kubernetes.io__hostname": "n1",
                    "kubelet.kubernetes.io__z": "1",
                    "topology.kubernetes.io__zone": "a",
                    "example.com__a": "b",
                },
            ),
            "",
        ),
    ],
)
def test_a_node_registers_itself(gate: Gate, made: Node, why: str) -> None:
    refused = gate.refusal(gate.create, made, user=KUBELET)
    assert (why in refused) if why else not refused


def test_a_node_may_come_with_taints_and_not_take_them_off(gate: Gate) -> None:
    tainted = node(taints=[Taint(key="a", effect="NoSchedule")])
    gate.create(tainted, user=KUBELET)
    assert gate.refusal(gate.update, node(), tainted, user=KUBELET) == (
        'nodes "n1" is forbidden: node "n1" is not allowed to modify taints'
    )


def test_labels_that_place_pods_are_not_the_nodes_to_change(gate: Gate) -> None:
    old = node(**{"node-restriction.kubernetes.io__x": "1"})
    assert gate.refusal(gate.update, node(), old, user=KUBELET) == (
        'nodes "n1" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/x'
    )
    gate.update(node(x="z"), node(x="y"), user=KUBELET)


def test_owners_of_a_node_are_not_its_own_to_choose(gate: Gate) -> None:
    owned = node()
    owned.metadata.ownerReferences = [OwnerReference(apiVersion="v1", kind="Node", name="n1", uid="x")]
    refused = gate.refusal(gate.update, owned, node(), user=KUBELET)
    assert refused == 'nodes "n1" is forbidden: node "n1" is not allowed to modify ownerReferences'


def mirror(owner: dict[str, Any] | None = None, mirrored: bool = True, **spec: Any) -> Pod:
    made = pod(**{"nodeName": "n1", **spec})
    if mirrored:
        made.metadata.annotations["kubernetes.io/config.mirror"] = "x"
    whole = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": True, **(owner or {})}
    made.metadata.ownerReferences = [] if owner == {"none": True} else [OwnerReference(**whole)]
    return made


SECRET = core_v1.Volume(name="s", configMap=core_v1.ConfigMapVolumeSource(name="x"))
CLAIM = core_v1.Volume(name="s", persistentVolumeClaim=core_v1.PersistentVolumeClaimVolumeSource(claimName="x"))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (mirror(), ""),
        (
            mirror(mirrored=False, serviceAccountName="default"),
            'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods',
        ),
        (mirror(nodeName="n2"), 'node "n1" can only create pods with spec.nodeName set to itself'),
        (mirror(nodeName=None), 'node "n1" can only create pods with spec.nodeName set to itself'),
        (mirror({"none": True}), 'node "n1" can only create pods with an owner reference set to itself'),
        (mirror({"name": "n2"}), 'node "n1" can only create pods with an owner reference set to itself'),
        (mirror({"kind": "Pod"}), 'node "n1" can only create pods with an owner reference set to itself'),
        (mirror({"uid": "x"}), "node n1 UID mismatch: expected x got u1"),
        (
            mirror({"controller": None}),
            'node "n1" can only create pods with a controller owner reference set to itself',
        ),
        (mirror(volumes=[SECRET]), 'node "n1" can not create pods that reference configmaps'),
        (mirror(volumes=[CLAIM]), 'node "n1" can not create pods that reference persistentvolumeclaims'),
        (
            mirror(resourceClaims=[core_v1.PodResourceClaim(name="c", resourceClaimName="x")]),
            'node "n1" can not create pods that reference resourceclaims',
        ),
    ],
)
def test_a_node_makes_mirror_pods_only(gate: Gate, made: Pod, why: str) -> None:
    refused = gate.refusal(gate.create, made, user=KUBELET)
    assert refused == (f'pods "p" is forbidden: {why}' if why else "")


def test_a_node_deletes_and_reports_on_its_own_pods(gate: Gate) -> None:
    own, other = pod(nodeName="n1"), pod(nodeName="n2")
    gate.delete(own, user=KUBELET)
    assert gate.refusal(gate.delete, other, user=KUBELET) == (
        'pods "p" is forbidden: node "n1" can only delete pods with spec.nodeName set to itself'
    )
    gate.update(own, own, subresource="status", user=KUBELET)
    refused = gate.refusal(gate.update, other, other, subresource="status", user=KUBELET)
    assert refused.endswith('node "n1" can only update pod status for pods with spec.nodeName set to itself')
    labelled = codec.clone(own)
    labelled.metadata.labels["a"] = "b"
    refused = gate.refusal(gate.update, labelled, own, subresource="status", user=KUBELET)
    assert refused.endswith('node "n1" cannot update labels through pod status')
    assert gate.refusal(gate.update, own, own, user=KUBELET)


def token_request(ref: BoundObjectReference | None, *audiences: str) -> Attributes:
    row = scheme.resource_for("", "v1", "serviceaccounts")
    assert row is not None
    request = TokenRequest(spec=TokenRequestSpec(boundObjectRef=ref, audiences=list(audiences)))
    return Attributes("CREATE", row, "token", "ns", "default", request, None, KUBELET)


def ask_token(gate: Gate, ref: BoundObjectReference | None, *audiences: str) -> str:
    return gate.refusal(lambda: gate.chain.admit(token_request(ref, *audiences)))


def test_a_nodes_tokens_are_bound_to_its_pods(gate: Gate) -> None:
    tokens = [core_v1.ServiceAccountTokenProjection(audience=a, path="t") for a in ("vault", None)]
    sources = [core_v1.VolumeProjection(serviceAccountToken=token) for token in tokens]
    volume = core_v1.Volume(name="v", projected=core_v1.ProjectedVolumeSource(sources=sources))
    own = gate.objects.put(pod(nodeName="n1", volumes=[volume]))
    elsewhere = pod(nodeName="n2")
    elsewhere.metadata.name = "far"
    far = gate.objects.put(elsewhere)

    def ref(name: str, uid: str, kind: str = "Pod") -> BoundObjectReference:
        return BoundObjectReference(apiVersion="v1", kind=kind, name=name, uid=uid or None)

    assert "node requested token not bound to a pod" in ask_token(gate, None)
    assert "node requested token not bound to a pod" in ask_token(gate, ref("s", "x", "Secret"))
    assert "node requested token with a pod binding without a uid" in ask_token(gate, ref("p", ""))
    assert "does not match the UID in record" in ask_token(gate, ref("p", "zz"))
    with pytest.raises(ApiError, match='pod "gone" not found'):
        gate.chain.admit(token_request(ref("gone", "zz")))
    assert "scheduled on a different node" in ask_token(gate, ref("far", far.metadata.uid))
    assert ask_token(gate, ref("p", own.metadata.uid)) == ""
    assert ask_token(gate, ref("p", own.metadata.uid), "vault") == ""
    assert "node may only request 0 or 1 audiences" in ask_token(gate, ref("p", own.metadata.uid), "vault", "mail")
    assert ask_token(gate, ref("p", own.metadata.uid), "mail") == (
        'serviceaccounts "default" is forbidden: audience "mail" not found in pod spec volume, system:node:n1 is not '
        "authorized to request tokens for this audience"
    )


def test_leases_csi_nodes_and_slices_are_the_nodes_own(gate: Gate) -> None:
    def lease(name: str) -> Lease:
        return Lease(metadata=ObjectMeta(name=name, namespace="kube-node-lease"))

    assert not gate.refusal(gate.create, lease("n1"), user=KUBELET)
    assert gate.refusal(gate.create, lease("n2"), user=KUBELET) == (
        'leases.coordination.k8s.io "n2" is forbidden: '
        "can only access node lease with the same name as the requesting node"
    )
    assert gate.refusal(gate.create, CSINode(metadata=ObjectMeta(name="n2")), user=KUBELET) == (
        'csinodes.storage.k8s.io "n2" is forbidden: can only access CSINode with the same name as the requesting node'
    )
    piece = ResourceSlice(metadata=ObjectMeta(name="s"), spec=ResourceSliceSpec(nodeName="n2"))
    assert gate.refusal(gate.create, piece, user=KUBELET).endswith(
        "can only create ResourceSlice with the same NodeName as the requesting node"
    )


def test_a_nodes_word_on_a_claim_is_about_its_size(gate: Gate) -> None:
    meta = ObjectMeta(name="c", namespace="ns")
    old = core_v1.PersistentVolumeClaim(metadata=meta)
    grown = codec.clone(old)
    grown.status.capacity["storage"] = core_v1.Quantity("2Gi")
    gate.update(grown, old, subresource="status", user=KUBELET)
    grown.status.phase = "Lost"
    assert gate.refusal(gate.update, grown, old, subresource="status", user=KUBELET)


def test_others_are_not_restricted(gate: Gate) -> None:
    gate.create(node("n2", **{"node-restriction.kubernetes.io__x": "y"}))
    gate.delete(pod(nodeName="n2"))


def test_a_kubelet_without_a_name_may_do_nothing(gate: Gate) -> None:
    nameless = User("system:node:", groups=("system:nodes",))
    assert "could not determine node" in gate.refusal(gate.create, node(), user=nameless)


def test_inline_volumes_of_drivers_are_not_for_mirror_pods(gate: Gate) -> None:
    gate.create(node())
    mirror = pod(nodeName="n1", volumes=[core_v1.Volume(name="v", csi=core_v1.CSIVolumeSource(driver="d"))])
    found = gate.objects.get("nodes", "", "n1")
    mirror.metadata.annotations = {"kubernetes.io/config.mirror": "h"}
    uid = found.metadata.uid if found is not None else ""
    mirror.metadata.ownerReferences = [
        OwnerReference(apiVersion="v1", kind="Node", name="n1", uid=uid, controller=True)
    ]
    assert "reference csidrivers (via CSI volumes)" in gate.refusal(gate.create, mirror, user=KUBELET)
