"""NodeRestriction: a kubelet changes its own node, its own pods, and nothing that would lift it above its place.

The second half of the Node authorizer: here the contents of writes are looked at.
Source: "NodeRestriction" in the admission controllers reference; KEP-279 for labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kybern.api import codec
from kybern.api.authentication_v1 import TokenRequest
from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.api.certificates_v1beta1 import PodCertificateRequestSpec
from kybern.api.core_v1 import Node, Pod
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize import node as node_authorizer
from kybern.apiserver.authorize import references
from kybern.apiserver.authorize.attributes import Attributes as Question
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader
from kybern.machinery.status import ApiError

_RESTRICTED_PREFIX = "node-restriction.kubernetes.io"
# Labels of kubernetes.io and k8s.io that a kubelet may set on its node.
_LABELS = frozenset(
    {
        "kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type", "node.kubernetes.io/windows-build", "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os", "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region", "topology.kubernetes.io/zone",
    }
)  # fmt: skip
_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(Rule):
    name: str = "NodeRestriction"

    def __init__(self, reader: Reader, authorizers: Authorizers) -> None:
        self._reader = reader
        self._authorizers = authorizers
        self._judges: dict[str, Callable[[str, Attributes], None]] = {
            "pods": self._judge_pod,
            "pods/status": self._judge_pod_status,
            "pods/eviction": self._judge_deletion,
            "pods/resize": self._refuse,
            "nodes": self._judge_node,
            "nodes/status": self._judge_node,
            "persistentvolumeclaims/status": self._judge_claim_status,
            "serviceaccounts/token": self._judge_token,
            "leases.coordination.k8s.io": self._judge_lease,
            "csinodes.storage.k8s.io": self._judge_csi_node,
            "resourceslices.resource.k8s.io": self._judge_slice,
            "podcertificaterequests.certificates.k8s.io": self._judge_certificate_request,
            "certificatesigningrequests.certificates.k8s.io": self._judge_signing_request,
        }

    def handles(self, a: Attributes) -> bool:
        return a.operation != "CONNECT" and _target(a) in self._judges

    def validate(self, a: Attributes) -> None:
        node = node_authorizer.node_of(a.user)
        if node is None:
            return
        if not node:
            raise forbidden(a, f'could not determine node from user "{a.user.name}"')
        self._judges[_target(a)](node, a)

    # -- pods ----------------------------------------------------------------------------------------------------

    def _judge_pod(self, node: str, a: Attributes) -> None:
        made: Any = a.object
        match a.operation:
            case "CREATE":
                self._judge_mirror(node, a, made)
            case "DELETE":
                self._judge_deletion(node, a)
            case _:
                raise forbidden(
                    a, f'unexpected operation "{a.operation}", node "{node}" can only create and delete pods'
                )

    def _judge_mirror(self, node: str, a: Attributes, pod: Pod) -> None:
        if references.MIRROR not in pod.metadata.annotations:
            why = f'pod does not have "{references.MIRROR}" annotation, node "{node}" can only create mirror pods'
            raise forbidden(a, why)
        if pod.spec.nodeName != node:
            raise forbidden(a, f'node "{node}" can only create pods with spec.nodeName set to itself')
        self._judge_owner(node, a, pod)
        if any(volume.ephemeral is not None for volume in pod.spec.volumes):
            what = "persistentvolumeclaims (via ephemeral volumes)"
            raise forbidden(a, f'node "{node}" can not create pods that reference {what}')
        for what, found in (
            ("secrets", references.secrets_of(pod)),
            ("configmaps", references.config_maps_of(pod)),
            ("persistentvolumeclaims", references.volume_claims_of(pod)),
            ("resourceclaims", iter(c.name for c in pod.spec.resourceClaims)),
        ):
            if next(found, None) is not None:
                raise forbidden(a, f'node "{node}" can not create pods that reference {what}')
        for volume in pod.spec.volumes:
            if volume.csi is not None:
                raise forbidden(a, f'node "{node}" can not create pods that reference csidrivers (via CSI volumes)')
        if pod.spec.serviceAccountName:
            raise forbidden(a, f'node "{node}" can not create pods that reference a service account')

    def _judge_owner(self, node: str, a: Attributes, pod: Pod) -> None:
        owners = pod.metadata.ownerReferences
        if len(owners) != 1:
            how_many = "an" if not owners else "a single"
            raise forbidden(a, f'node "{node}" can only create pods with {how_many} owner reference set to itself')
        (owner,) = owners
        if (owner.apiVersion, owner.kind, owner.name) != ("v1", "Node", node):
            raise forbidden(a, f'node "{node}" can only create pods with an owner reference set to itself')
        if not owner.controller:
            raise forbidden(a, f'node "{node}" can only create pods with a controller owner reference set to itself')
        if owner.blockOwnerDeletion:
            raise forbidden(a, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        found: Node | None = self._reader.get("nodes", "", node)
        if found is None:
            raise forbidden(a, f'node "{node}" not found')
        if owner.uid != found.metadata.uid:
            raise forbidden(a, f"node {node} UID mismatch: expected {owner.uid} got {found.metadata.uid}")

    def _judge_deletion(self, node: str, a: Attributes) -> None:
        is_eviction = a.subresource == "eviction"
        pod = a.old if isinstance(a.old, Pod) else self._reader.get("pods", a.namespace, a.name)
        if pod is None or pod.spec.nodeName == node:
            return
        if is_eviction:
            raise forbidden(a, f"node {node} can only evict pods with spec.nodeName set to itself")
        raise forbidden(a, f'node "{node}" can only delete pods with spec.nodeName set to itself')

    def _judge_pod_status(self, node: str, a: Attributes) -> None:
        pod, old = a.object, a.old
        if a.operation != "UPDATE" or not isinstance(pod, Pod) or not isinstance(old, Pod):
            raise forbidden(a, f'unexpected operation "{a.operation}"')
        if old.spec.nodeName != node:
            raise forbidden(a, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
        if pod.metadata.labels != old.metadata.labels:
            raise forbidden(a, f'node "{node}" cannot update labels through pod status')
        if pod.status.resourceClaimStatuses != old.status.resourceClaimStatuses:
            raise forbidden(a, f'node "{node}" cannot update resource claim statues')  # as upstream spells it
        if pod.status.extendedResourceClaimStatus != old.status.extendedResourceClaimStatus:
            raise forbidden(a, f'node "{node}" cannot update extended resource claim status')

    def _refuse(self, node: str, a: Attributes) -> None:
        raise forbidden(a, f'node "{node}" can not change {a.resource.plural}/{a.subresource}')

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _judge_node(self, node: str, a: Attributes) -> None:
        if a.name != node:
            raise forbidden(a, f'node "{node}" is not allowed to modify node "{a.name}"')
        new, old = _both(a)
        if a.operation == "CREATE":
            wrong = sorted(k for k in new.metadata.labels if not _may_set(k))
            if wrong:
                why = f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}'
                raise forbidden(a, why)
            if new.metadata.ownerReferences:
                raise forbidden(a, f'node "{node}" is not allowed to set ownerReferences')
        elif a.operation == "UPDATE":
            self._judge_node_update(node, a, new, old)

    def _judge_node_update(self, node: str, a: Attributes, new: Node, old: Node) -> None:
        if new.metadata.ownerReferences != old.metadata.ownerReferences:
            raise forbidden(a, f'node "{node}" is not allowed to modify ownerReferences')
        if new.spec.configSource != old.spec.configSource and new.spec.configSource is not None:
            raise forbidden(a, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
        # Taints decide what may run here: a kubelet must not draw pods to itself.
        if new.spec.taints != old.spec.taints:
            raise forbidden(a, f'node "{node}" is not allowed to modify taints')
        changed = _changed(new.metadata.labels, old.metadata.labels)
        wrong = sorted(k for k in changed if not _may_set(k))
        if wrong:
            raise forbidden(a, f"is not allowed to modify labels: {', '.join(wrong)}")

    # -- the rest ------------------------------------------------------------------------------------------------

    def _judge_claim_status(self, node: str, a: Attributes) -> None:
        """A kubelet grows file systems: it tells the new size and how far it is, nothing else."""
        if a.operation != "UPDATE":
            raise forbidden(a, f'unexpected operation "{a.operation}"')
        new, old = (codec.clone(claim) for claim in _both(a))
        for claim in (new, old):
            claim.status.capacity = {}
            claim.status.conditions = []
            claim.status.allocatedResources = {}
            claim.status.allocatedResourceStatuses = {}
            claim.metadata.managedFields = []
            claim.metadata.resourceVersion = ""
        if new != old:
            why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
            raise forbidden(a, why)

    def _judge_token(self, node: str, a: Attributes) -> None:
        request = a.object
        if a.operation != "CREATE" or not isinstance(request, TokenRequest):
            return
        ref = request.spec.boundObjectRef
        if ref is None or (ref.apiVersion, ref.kind) != ("v1", "Pod") or not ref.name:
            raise forbidden(a, "node requested token not bound to a pod")
        if not ref.uid:
            raise forbidden(a, "node requested token with a pod binding without a uid")
        pod: Pod | None = self._reader.get("pods", a.namespace, ref.name)
        if pod is None:
            raise ApiError.make(404, "NotFound", f'pod "{ref.name}" not found')
        if pod.metadata.uid != ref.uid:
            raise forbidden(
                a,
                f"the UID in the bound object reference ({ref.uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if pod.spec.nodeName != node:
            raise forbidden(a, "node requested token bound to a pod scheduled on a different node")
        if len(request.spec.audiences) > 1:
            raise forbidden(a, "node may only request 0 or 1 audiences")
        audience = next(iter(request.spec.audiences), "")
        if not self._needs_audience(pod, audience) and not self._may_request(a, audience):
            why = (
                f'audience "{audience}" not found in pod spec volume, {a.user.name} is not authorized '
                "to request tokens for this audience"
            )
            raise forbidden(a, why)

    def _may_request(self, a: Attributes, audience: str) -> bool:
        """Some kubelets fetch tokens for others than pods: their credential providers, for one."""
        verb = "request-serviceaccounts-token-audience"
        question = Question(verb, "", audience, namespace=a.namespace, name=a.name, version="*")
        return self._authorizers.authorize(a.user, question).allowed

    def _needs_audience(self, pod: Pod, audience: str) -> bool:
        drivers = []
        for volume in pod.spec.volumes:
            for projection in volume.projected.sources if volume.projected else ():
                token = projection.serviceAccountToken
                if token is not None and (token.audience or "") == audience:
                    return True
            if volume.csi is not None:
                drivers.append(volume.csi.driver)
        for name in references.volume_claims_of(pod):
            claim = self._reader.get("persistentvolumeclaims", pod.metadata.namespace, name)
            volume_name = claim.spec.volumeName if claim is not None else ""
            found = self._reader.get("persistentvolumes", "", volume_name) if volume_name else None
            if found is not None and found.spec.csi is not None:
                drivers.append(found.spec.csi.driver)
        for driver_name in drivers:
            driver = self._reader.get("csidrivers.storage.k8s.io", "", driver_name)
            if driver is not None and any(t.audience == audience for t in driver.spec.tokenRequests):
                return True
        return False

    def _judge_lease(self, node: str, a: Attributes) -> None:
        if a.namespace != node_authorizer.LEASES:
            raise forbidden(a, f'can only access leases in the "{node_authorizer.LEASES}" system namespace')
        if a.name != node:
            raise forbidden(a, "can only access node lease with the same name as the requesting node")

    def _judge_csi_node(self, node: str, a: Attributes) -> None:
        if a.name != node:
            raise forbidden(a, "can only access CSINode with the same name as the requesting node")

    def _judge_slice(self, node: str, a: Attributes) -> None:
        found = a.object if a.operation == "CREATE" else a.old
        if found is not None and found.spec.nodeName != node:
            verb = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}[a.operation]
            raise forbidden(a, f"can only {verb} ResourceSlice with the same NodeName as the requesting node")

    def _judge_certificate_request(self, node: str, a: Attributes) -> None:
        """Only for a pod that runs here, as what it runs. Upstream answers 500 to some of this."""
        if a.operation != "CREATE":
            return
        request: Any = a.object
        spec: PodCertificateRequestSpec = request.spec
        if spec.nodeName != node:
            why = f'PodCertificateRequest.Spec.NodeName="{spec.nodeName}", which is not the requesting node "{node}"'
            raise forbidden(a, why)
        pod: Pod | None = self._reader.get("pods", a.namespace, spec.podName)
        where = f'"{a.namespace}/{spec.podName}"'
        about = f"PodCertificateRequest for pod {where}"
        if pod is None:
            raise forbidden(a, f"pod {where} named in the PodCertificateRequest not found")
        if pod.metadata.uid != spec.podUID:
            why = f'contains pod UID ("{spec.podUID}") which differs from running pod "{pod.metadata.uid}"'
            raise forbidden(a, f"{about} {why}")
        if pod.spec.nodeName != node:
            raise forbidden(a, f"{about} names a pod that is not bound to the requesting node")
        if references.MIRROR in pod.metadata.annotations:
            raise forbidden(a, f"{about} names a mirror pod")
        if pod.spec.serviceAccountName != spec.serviceAccountName:
            raise forbidden(
                a,
                f'{about} contains serviceAccountName ("{spec.serviceAccountName}") that differs from running pod '
                f'("{pod.spec.serviceAccountName or ""}")',
            )
        for what, found, uid in (
            ("service account", self._reader.get("serviceaccounts", a.namespace, spec.serviceAccountName),
             spec.serviceAccountUID),
            ("node", self._reader.get("nodes", "", node), spec.nodeUID),
        ):  # fmt: skip
            own = found.metadata.uid if found is not None else ""
            if own != uid:
                raise forbidden(a, f'{about} names {what} UID "{uid}", which differs from that of the running "{own}"')

    def _judge_signing_request(self, node: str, a: Attributes) -> None:
        """A kubelet has its own certificates signed, and no other node's."""
        request = a.object
        if a.operation != "CREATE" or not isinstance(request, CertificateSigningRequest):
            return
        if request.spec.signerName not in _NODE_SIGNERS:
            return
        try:
            subject = x509.load_pem_x509_csr(request.spec.request or b"").subject
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise forbidden(a, f"unable to parse csr: {error}") from None
        names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [a.user.name]:
            raise forbidden(a, f"can only create a node CSR with CN={a.user.name}")


def _both(a: Attributes) -> tuple[Any, Any]:
    return a.object, a.old


def _target(a: Attributes) -> str:
    return f"{a.group_resource}/{a.subresource}" if a.subresource else a.group_resource


def _changed(new: Mapping[str, Any], old: Mapping[str, Any]) -> set[str]:
    return {k for k in new.keys() | old.keys() if new.get(k) != old.get(k)}


def _may_set(label: str) -> bool:
    """Labels of other domains are free; those of Kubernetes only as listed; the restricted prefix never."""
    domain = label.partition("/")[0] if "/" in label else ""
    if domain == _RESTRICTED_PREFIX or domain.endswith(f".{_RESTRICTED_PREFIX}"):
        return False
    if label in _LABELS or any(domain == d or domain.endswith(f".{d}") for d in _LABEL_DOMAINS):
        return True
    return not any(domain == d or domain.endswith(f".{d}") for d in ("kubernetes.io", "k8s.io"))
