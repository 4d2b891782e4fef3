"""RBACEscalation: nobody grants what he does not hold. Upstream's registry does this; here it is part of admission."""

from __future__ import annotations

from typing import ClassVar

from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.authorize import escalation
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.authorize.rbac import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES


class RbacEscalation(Rule):
    name: str = "RBACEscalation"
    targets: ClassVar[frozenset[str] | None] = frozenset({ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS})

    def __init__(self, authorizers: Authorizers) -> None:
        self._authorizers = authorizers

    def validate(self, a: Attributes) -> None:
        if isinstance(a.object, Role | ClusterRole):
            escalation.check_role(self._authorizers, a.user, a.object, a.old)
        elif isinstance(a.object, RoleBinding | ClusterRoleBinding):
            escalation.check_binding(self._authorizers, a.user, a.object, a.old)
