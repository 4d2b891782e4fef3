"""Decide for kubelets: a node may do what its pods need, and no more.

A kubelet is a user `system:node:<name>` of the group system:nodes. Objects that pods refer to are found through the
pods bound to the node; who once justified a read is remembered and asked first the next time (references of a pod
never change). Source: "Using Node Authorization" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable

from kybern.api.core_v1 import PersistentVolumeClaim, Pod
from kybern.apiserver.authorize import references, rules
from kybern.apiserver.authorize.attributes import Attributes, Decision
from kybern.apiserver.authorize.bootstrap_roles import node_rules
from kybern.apiserver.request import Reader, User

USER_PREFIX = "system:node:"
GROUP = "system:nodes"
LEASES = "kube-node-lease"
_CACHED = 65536
_ALLOWED = Decision(True, "", "node")
_READ = frozenset({"get", "list", "watch"})
_OWN = frozenset({"get", "create", "update", "patch", "delete"})


def node_of(user: User) -> str | None:
    """The node a user is the kubelet of; None for others, "" for a kubelet without a name."""
    if GROUP not in user.groups or not user.name.startswith(USER_PREFIX):
        return None
    return user.name[len(USER_PREFIX) :]


class NodeAuthorizer:
    """None for users that are no nodes; a decision against tells what relation is missing."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rules = [r for r in node_rules() if not _is_special(r.apiGroups, r.resources)]
        # (node, resource, namespace, name) -> (namespace, name, uid) of the pod that needs it
        self._witnesses: dict[tuple[str, str, str, str], tuple[str, str, str]] = {}
        self._related: dict[str, Callable[[Pod, Attributes], bool]] = {
            "secrets": self._needs_secret,
            "configmaps": lambda pod, a: (
                pod.metadata.namespace == a.namespace and a.name in references.config_maps_of(pod)
            ),
            "persistentvolumeclaims": lambda pod, a: (
                pod.metadata.namespace == a.namespace and a.name in references.volume_claims_of(pod)
            ),
            "persistentvolumes": lambda pod, a: a.name in self._volumes_of(pod),
            "resourceclaims": lambda pod, a: (
                pod.metadata.namespace == a.namespace and a.name in references.resource_claims_of(pod)
            ),
            "serviceaccounts": lambda pod, a: (
                pod.metadata.namespace == a.namespace and (pod.spec.serviceAccountName or "default") == a.name
            ),
        }

    def authorize(self, user: User, a: Attributes) -> Decision | None:
        node = node_of(user)
        if node is None:
            return None
        if not node:
            return Decision(False, f'unknown node for user "{user.name}"')
        why_not = self._judge(node, a)
        return _ALLOWED if why_not is None else Decision(False, why_not)

    def _judge(self, node: str, a: Attributes) -> str | None:
        """Why not ("": there is nothing to say); None if it is allowed."""
        match (a.group, a.resource):
            case ("", "secrets" | "configmaps"):
                return self._judge_read(node, a)
            case ("", "persistentvolumeclaims") if a.subresource == "status":
                if a.verb not in ("update", "patch"):
                    return "can only get/update/patch this type"  # upstream says get, and refuses it
                return self._judge_related(node, a)
            case ("", "persistentvolumeclaims" | "persistentvolumes") | ("resource.k8s.io", "resourceclaims"):
                return _judge_get(a) or self._judge_related(node, a)
            case ("", "serviceaccounts"):
                if a.verb == "get" and not a.subresource:
                    return self._judge_related(node, a)
                if a.verb != "create" or not a.name:
                    return "can only create tokens for individual service accounts"
                if a.subresource != "token":
                    return "can only create token subresource of serviceaccount"
                return self._require_relation(node, a)
            case ("", "nodes") if a.verb in _READ and not a.subresource:
                if not a.name:
                    return f"node {node!r} cannot read all nodes, only its own Node object"
                return None if a.name == node else f"node {node!r} cannot read {a.name!r}, only its own Node object"
            case ("", "pods") if a.verb in _READ and not a.subresource:
                return self._judge_pods(node, a)
            case ("storage.k8s.io", "volumeattachments"):
                return self._judge_attachment(node, a)
            case ("storage.k8s.io", "csinodes"):
                if a.verb in _OWN and a.subresource:
                    return "cannot authorize CSINode subresources"
                return _judge_own(node, a, "CSINode")
            case ("coordination.k8s.io", "leases"):
                if a.verb in _OWN and a.namespace != LEASES:
                    return f'can only access leases in the "{LEASES}" system namespace'
                return _judge_own(node, a, "node lease")
            case ("resource.k8s.io", "resourceslices"):
                return self._judge_slices(node, a)
            case ("certificates.k8s.io", "podcertificaterequests"):
                return self._judge_certificate_request(node, a)
        return None if any(rules.allows(r, a) for r in self._rules) else ""

    def _judge_read(self, node: str, a: Attributes) -> str | None:
        if a.verb not in _READ:
            return "can only read resources of this type"
        if a.subresource:
            return "cannot read subresource"
        if not a.namespace:
            return "can only read namespaced object of this type"
        return self._judge_related(node, a)

    def _judge_related(self, node: str, a: Attributes) -> str | None:
        if not a.name:
            return "No Object name found"
        return self._require_relation(node, a)

    def _judge_pods(self, node: str, a: Attributes) -> str | None:
        if a.verb == "get" and not a.name:
            return "No Object name found"
        if a.verb == "get" or (a.namespace and a.name):
            pod = self._reader.get("pods", a.namespace, a.name)
            return None if pod is not None and pod.spec.nodeName == node else _no_relation(node)
        return (
            None if a.field("spec.nodeName") == node else "can only list/watch pods with spec.nodeName field selector"
        )

    def _judge_attachment(self, node: str, a: Attributes) -> str | None:
        why_not = _judge_get(a)
        if why_not:
            return why_not
        if not a.name:
            return "No Object name found"
        found = self._reader.get("volumeattachments.storage.k8s.io", "", a.name)
        return None if found is not None and found.spec.nodeName == node else _no_relation(node)

    def _judge_slices(self, node: str, a: Attributes) -> str | None:
        if a.subresource:
            return "cannot authorize ResourceSlice subresources"
        if a.verb in ("list", "watch", "deletecollection"):
            own = a.field("spec.nodeName") == node
            if own:
                return None
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
        if a.verb == "create":
            return None  # admission checks the node it names
        found = self._reader.get("resourceslices.resource.k8s.io", "", a.name)
        return None if found is not None and found.spec.nodeName == node else _no_relation(node)

    def _judge_certificate_request(self, node: str, a: Attributes) -> str | None:
        if a.subresource == "status":
            return "nodes may not access the status subresource of PodCertificateRequests"
        match a.verb:
            case "create":
                return None  # admission checks the pod it is for
            case "get":
                found = self._reader.get("podcertificaterequests.certificates.k8s.io", a.namespace, a.name)
                return None if found is not None and found.spec.nodeName == node else _no_relation(node)
            case "list" | "watch":
                own = a.field("spec.nodeName") == node
                return None if own else "can only list/watch podcertificaterequests with nodeName field selector"
        return f"nodes may not {a.verb} podcertificaterequests"

    def _require_relation(self, node: str, a: Attributes) -> str | None:
        key = (node, a.resource, a.namespace, a.name)
        witness = self._witnesses.get(key)
        if witness is not None and self._is_on(node, self._pod(witness)):
            return None
        relates = self._related[a.resource]
        for pod in self._reader.having("pods", "spec.nodeName", node, a.namespace or None):
            if self._is_on(node, pod) and relates(pod, a):
                if len(self._witnesses) >= _CACHED:
                    self._witnesses.clear()
                # A volume's secret may be in another namespace than the pod, and claims can be bound anew.
                if a.resource in ("configmaps", "persistentvolumeclaims", "serviceaccounts"):
                    self._witnesses[key] = (pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
                return None
        if a.resource == "secrets" and self._needed_by_volume(node, a):
            return None
        return _no_relation(node)

    def _pod(self, witness: tuple[str, str, str]) -> Pod | None:
        namespace, name, uid = witness
        pod: Pod | None = self._reader.get("pods", namespace, name)
        return pod if pod is not None and pod.metadata.uid == uid else None

    def _is_on(self, node: str, pod: Pod | None) -> bool:
        return pod is not None and pod.spec.nodeName == node and references.MIRROR not in pod.metadata.annotations

    def _needs_secret(self, pod: Pod, a: Attributes) -> bool:
        return pod.metadata.namespace == a.namespace and a.name in references.secrets_of(pod)

    def _needed_by_volume(self, node: str, a: Attributes) -> bool:
        """A secret named by a volume that is claimed by a pod of the node, wherever that pod lives."""
        wanted = (a.namespace, a.name)
        for volume in self._reader.list("persistentvolumes"):
            if wanted in references.secrets_of_volume(volume) and volume.spec.claimRef:
                claim = volume.spec.claimRef
                for pod in self._reader.having("pods", "spec.nodeName", node, claim.namespace or ""):
                    if self._is_on(node, pod) and volume.metadata.name in self._volumes_of(pod):
                        return True
        return False

    def _volumes_of(self, pod: Pod) -> list[str]:
        claims: list[PersistentVolumeClaim | None] = [
            self._reader.get("persistentvolumeclaims", pod.metadata.namespace, name)
            for name in references.volume_claims_of(pod)
        ]
        return [c.spec.volumeName for c in claims if c is not None and c.spec.volumeName]


def _judge_get(a: Attributes) -> str:
    """Why it is no reading of one object; "" if it is."""
    if a.verb != "get":
        return "can only get individual resources of this type"
    return "cannot get subresource" if a.subresource else ""


def _judge_own(node: str, a: Attributes, what: str) -> str | None:
    if a.verb not in _OWN:
        return f"can only get, create, update, patch, or delete a {what}"
    # What is created is named in its body: NodeRestriction looks at it.
    if a.name == node or a.verb == "create":
        return None
    return f"can only access {what} with the same name as the requesting node"


def _no_relation(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def _is_special(groups: list[str], resources: list[str]) -> bool:
    """Rules of system:node that hold for some objects only, which `_judge` tells apart."""
    special = {
        ("", "secrets"), ("", "configmaps"), ("", "persistentvolumeclaims"), ("", "persistentvolumes"),
        ("", "persistentvolumeclaims/status"), ("", "serviceaccounts"), ("", "serviceaccounts/token"),
        ("resource.k8s.io", "resourceclaims"), ("resource.k8s.io", "resourceslices"),
        ("storage.k8s.io", "volumeattachments"), ("storage.k8s.io", "csinodes"), ("coordination.k8s.io", "leases"),
        ("certificates.k8s.io", "podcertificaterequests"),
    }  # fmt: skip
    return all((g, r) in special for g in groups for r in resources)
