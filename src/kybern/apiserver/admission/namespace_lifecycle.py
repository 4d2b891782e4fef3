"""NamespaceLifecycle: nothing is made in a namespace that is not there or is going, and some namespaces never go."""

from __future__ import annotations

from kybern.api.meta_v1 import StatusCause
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader
from kybern.machinery.status import ApiError

# kube-node-lease upstream may go; nodes would lose their heartbeats with it.
IMMORTAL = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
_REVIEWS = frozenset({"localsubjectaccessreviews.authorization.k8s.io"})


class NamespaceLifecycle(Rule):
    """First of the chain: what it refuses need not be looked at further."""

    name: str = "NamespaceLifecycle"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, a: Attributes) -> bool:
        if a.operation == "DELETE":
            return a.group_resource == "namespaces" and not a.subresource
        return a.resource.namespaced and a.group_resource not in _REVIEWS

    def admit(self, a: Attributes) -> None:
        if a.operation == "DELETE":
            if a.name in IMMORTAL:
                raise forbidden(a, "this namespace may not be deleted")
            return
        namespace = self._reader.get("namespaces", "", a.namespace)
        if namespace is None:
            raise ApiError.not_found("", "namespaces", a.namespace)
        if a.operation == "CREATE" and (
            namespace.metadata.deletionTimestamp or namespace.status.phase == "Terminating"
        ):
            raise _terminating(a)


def _terminating(a: Attributes) -> ApiError:
    error = forbidden(a, f"unable to create new content in namespace {a.namespace} because it is being terminated")
    assert error.status.details is not None
    error.status.details.causes.append(
        StatusCause(
            reason="NamespaceTerminating",
            message=f"namespace {a.namespace} is being terminated",
            field="metadata.namespace",
        )
    )
    return error
