"""Nobody grants what he does not hold: checks when roles and bindings are written.

Called by admission/rbac_escalation. Source: "Privilege escalation prevention and bootstrapping" in the RBAC
documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding
from kybern.apiserver.authorize import rules
from kybern.apiserver.authorize.attributes import MASTERS, Attributes
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User
from kybern.machinery.status import ApiError

GROUP = "rbac.authorization.k8s.io"
AnyRole = Role | ClusterRole
AnyBinding = RoleBinding | ClusterRoleBinding


def check_role(authorizers: Authorizers, user: User, role: AnyRole, old: AnyRole | None) -> None:
    """Raises forbidden when the role holds more than the user does, who may not `escalate` it."""
    if MASTERS in user.groups or (old is not None and _is_same(role, old)):
        return
    plural = "clusterroles" if isinstance(role, ClusterRole) else "roles"
    if _may(authorizers, user, "escalate", plural, role.metadata.namespace, role.metadata.name):
        return
    # Who writes the rule of an aggregation could let anything in: upstream asks for everything, too.
    wanted: Sequence[PolicyRule] = role.rules
    if isinstance(role, ClusterRole) and role.aggregationRule is not None:
        wanted = [
            PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"]),
            PolicyRule(verbs=["*"], nonResourceURLs=["*"]),
        ]
        if isinstance(old, ClusterRole) and old.aggregationRule == role.aggregationRule:
            wanted = role.rules
    _require(authorizers, user, wanted, plural, role.metadata.namespace, role.metadata.name)


def check_binding(authorizers: Authorizers, user: User, binding: AnyBinding, old: AnyBinding | None) -> None:
    """Raises forbidden when the role bound holds more than the user does, who may not `bind` it; 404 without role."""
    if MASTERS in user.groups:
        return
    if old is not None and (binding.roleRef, binding.subjects) == (old.roleRef, old.subjects):
        return
    namespace = binding.metadata.namespace if isinstance(binding, RoleBinding) else ""
    role_plural = "clusterroles" if binding.roleRef.kind == "ClusterRole" else "roles"
    if _may(authorizers, user, "bind", role_plural, namespace, binding.roleRef.name):
        return
    wanted = authorizers.rbac.rules_of(binding.roleRef, namespace)
    if wanted is None:
        raise ApiError.not_found(GROUP, role_plural, binding.roleRef.name)
    plural = "rolebindings" if isinstance(binding, RoleBinding) else "clusterrolebindings"
    _require(authorizers, user, wanted, plural, namespace, binding.metadata.name)


def _require(
    authorizers: Authorizers, user: User, wanted: Sequence[PolicyRule], plural: str, namespace: str, name: str
) -> None:
    held = [rule for _, rule in authorizers.rbac.rules_for(user, namespace)]
    missing = rules.plan_compact(rules.plan_uncovered(held, wanted))
    if not missing:
        return
    shown = "\n".join(rules.render(r) for r in missing)
    groups = " ".join(f'"{g}"' for g in user.groups)
    why = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{shown}'
    raise ApiError.forbidden(GROUP, plural, name, why)


def _may(authorizers: Authorizers, user: User, verb: str, plural: str, namespace: str, name: str) -> bool:
    return authorizers.authorize(user, Attributes(verb, GROUP, plural, "", namespace, name, version="v1")).allowed


def _is_same(role: AnyRole, old: AnyRole) -> bool:
    if isinstance(role, ClusterRole) and isinstance(old, ClusterRole) and role.aggregationRule != old.aggregationRule:
        return False
    return role.rules == old.rules
