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
    held = [rule for _, rule in authorizers.rbac.rules_for(user, role.metadata.namespace)]
    # The rule of an aggregation may let anything in.
    if _aggregates_anew(role, old) and not _holds_everything(held):
        why = "must have cluster-admin privileges to use the aggregationRule"
        raise ApiError.forbidden(GROUP, plural, role.metadata.name, why)
    _require(user, held, role.rules, plural, role.metadata.name)


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
    plural = "rolebindings" if isinstance(binding, RoleBinding) else "clusterrolebindings"
    wanted = authorizers.rbac.rules_of(binding.roleRef, namespace)
    if wanted is None:
        raise ApiError.not_found(GROUP, plural, binding.roleRef.name)  # upstream, too, names the binding's kind
    held = [rule for _, rule in authorizers.rbac.rules_for(user, namespace)]
    _require(user, held, wanted, plural, binding.metadata.name)


def _aggregates_anew(role: AnyRole, old: AnyRole | None) -> bool:
    if not isinstance(role, ClusterRole) or role.aggregationRule is None:
        return False
    return not isinstance(old, ClusterRole) or old.aggregationRule != role.aggregationRule


def _holds_everything(held: Sequence[PolicyRule]) -> bool:
    everything = [
        PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"]),
        PolicyRule(verbs=["*"], nonResourceURLs=["*"]),
    ]
    return not rules.plan_uncovered(held, everything)


def _require(user: User, held: Sequence[PolicyRule], wanted: Sequence[PolicyRule], plural: str, name: str) -> None:
    missing = rules.plan_compact(rules.plan_uncovered(held, wanted))
    if not missing:
        return
    shown = "\n".join(sorted(rules.render(r) for r in missing))
    groups = " ".join(f'"{g}"' for g in user.groups)
    why = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{shown}'
    raise ApiError.forbidden(GROUP, plural, name, why)


def _may(authorizers: Authorizers, user: User, verb: str, plural: str, namespace: str, name: str) -> bool:
    return authorizers.authorize(user, Attributes(verb, GROUP, plural, "", namespace, name, version="v1")).allowed


def _is_same(role: AnyRole, old: AnyRole) -> bool:
    if isinstance(role, ClusterRole) and isinstance(old, ClusterRole) and role.aggregationRule != old.aggregationRule:
        return False
    return role.rules == old.rules
