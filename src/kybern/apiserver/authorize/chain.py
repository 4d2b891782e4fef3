"""Decide whether a user may do something: the ordered authorizers.

Called by the pipeline for each request, by reviews, by impersonation and by escalation checks. Synchronous, and
cheap enough to be asked on every request.
"""

from __future__ import annotations

from kybern.apiserver.authorize import attributes as attributes_module
from kybern.apiserver.authorize.attributes import MASTERS, Attributes, Decision
from kybern.apiserver.authorize.node import NodeAuthorizer
from kybern.apiserver.authorize.rbac import Rbac
from kybern.apiserver.request import Reader, User

_MASTERS_DECISION = Decision(True, "", "masters")


class Authorizers:
    """system:masters, then Node, then RBAC: the first that allows decides; none denies for the others."""

    def __init__(self, reader: Reader) -> None:
        self.rbac = Rbac(reader)
        self.node = NodeAuthorizer(reader)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        if MASTERS in user.groups:
            return _MASTERS_DECISION
        node = self.node.authorize(user, attributes)
        if node is not None and node.allowed:
            return node
        decision = self.rbac.authorize(user, attributes)
        if decision.allowed or node is None:
            return decision
        return Decision(False, "; ".join(r for r in (node.reason, decision.reason) if r))

    def require(self, user: User, attributes: Attributes) -> Decision:
        """The decision for; raises the 403 for one against."""
        decision = self.authorize(user, attributes)
        if not decision.allowed:
            raise attributes_module.forbidden(user, attributes, decision.reason)
        return decision
