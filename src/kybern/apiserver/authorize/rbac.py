"""Decide by roles and bindings.

Bindings are indexed by subject; for each user (and namespace) the rules that could matter are gathered once, and
for each kind of request those that do, so that a decision is a few look-ups. All is dropped when any role or binding
changes, as the versions of Reader tell. Promise: a decision is never older than the Reader's view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kybern.api.rbac_v1 import ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef
from kybern.apiserver.authenticate.claims import user_name
from kybern.apiserver.authorize import rules
from kybern.apiserver.authorize.attributes import Attributes, Decision
from kybern.apiserver.request import Reader, User

ROLES = "roles.rbac.authorization.k8s.io"
CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io"
ROLE_BINDINGS = "rolebindings.rbac.authorization.k8s.io"
CLUSTER_ROLE_BINDINGS = "clusterrolebindings.rbac.authorization.k8s.io"
_CACHED = 16384

# (kind, name): ("User", "jane"), ("Group", "system:masters"). Service accounts are users by their user name.
SubjectKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Grant:
    """A role given to a subject: everywhere (`namespace` ""), or in one namespace."""

    namespace: str
    subject: str  # how reasons show it
    ref: RoleRef
    kind: str
    name: str

    @property
    def binding(self) -> str:
        return f"RoleBinding/{self.namespace}/{self.name}" if self.namespace else f"ClusterRoleBinding/{self.name}"

    @property
    def role(self) -> str:
        return f"Role/{self.namespace}/{self.ref.name}" if self.ref.kind == "Role" else f"ClusterRole/{self.ref.name}"

    @property
    def reason(self) -> str:
        """As upstream's: `RBAC: allowed by RoleBinding "b/ns" of ClusterRole "r" to User "jane"`."""
        binding = f"{self.name}/{self.namespace}" if self.namespace else self.name
        return f'RBAC: allowed by {self.kind} "{binding}" of {self.ref.kind} "{self.ref.name}" to {self.subject}'


@dataclass(frozen=True, slots=True)
class _Permit:
    """A rule that fits a kind of request, for some names or (None) for all."""

    names: frozenset[str] | None
    decision: Decision


_Key = tuple[str, str, str, str, str]  # verb, group, resource, subresource, path


class Rbac:
    """Roles and bindings of Reader as an authorizer."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen: tuple[int, ...] = ()
        self._index: dict[SubjectKey, list[Grant]] = {}
        self._rules: dict[tuple[str, tuple[str, ...], str], list[tuple[Grant, PolicyRule]]] = {}
        self._permits: dict[tuple[str, tuple[str, ...], str, _Key], tuple[_Permit, ...]] = {}
        self._missing: dict[tuple[str, tuple[str, ...], str], str] = {}

    def authorize(self, user: User, a: Attributes) -> Decision:
        """Allowed by the first rule found, bindings of the whole cluster first; otherwise not."""
        self._refresh()
        key: _Key = (a.verb, a.group, a.resource, a.subresource, "" if a.resource else a.path)
        scope = (user.name, user.groups, a.namespace, key)
        permits = self._permits.get(scope)
        if permits is None:
            permits = self._find_permits(user, a)
            if len(self._permits) >= _CACHED:
                self._permits.clear()
            self._permits[scope] = permits
        for permit in permits:
            if permit.names is None or a.name in permit.names:
                return permit.decision
        return Decision(False, self._missing.get((user.name, user.groups, a.namespace), ""))

    def rules_for(self, user: User, namespace: str) -> list[tuple[Grant, PolicyRule]]:
        """All a user may do in a namespace ("": only what is granted for the whole cluster)."""
        self._refresh()
        scope = (user.name, user.groups, namespace)
        found = self._rules.get(scope)
        if found is None:
            found = []
            missing = []
            for grant in self._grants_for(user, namespace):
                of_role = self.rules_of(grant.ref, grant.namespace)
                if of_role is None:
                    missing.append(_missing_role(grant.ref))
                else:
                    found += [(grant, rule) for rule in of_role]
            if len(self._rules) >= _CACHED:
                self._rules.clear()
                self._missing.clear()
            self._rules[scope] = found
            if missing:
                self._missing[scope] = _join_missing(missing)
        return found

    def rules_of(self, ref: RoleRef, namespace: str) -> list[PolicyRule] | None:
        """What a role allows; None when there is no such role."""
        if ref.kind == "Role":
            role = self._reader.get(ROLES, namespace, ref.name)
        else:
            role = self._reader.get(CLUSTER_ROLES, "", ref.name)
        return role.rules if role is not None else None

    def _find_permits(self, user: User, a: Attributes) -> tuple[_Permit, ...]:
        permits = []
        for grant, rule in self.rules_for(user, a.namespace):
            if not a.is_resource and grant.namespace:
                continue
            names = frozenset(rule.resourceNames) if a.is_resource and rule.resourceNames else None
            if names is None:
                fits = rules.allows(rule, a)
            else:  # the name is judged with each request
                fits = rules.allows(PolicyRule(verbs=rule.verbs, apiGroups=rule.apiGroups, resources=rule.resources), a)
            if fits:
                permits.append(_Permit(names, Decision(True, grant.reason, "rbac", grant.binding, grant.role)))
                if names is None:
                    break  # allows every name: what follows is never asked
        return tuple(permits)

    def _grants_for(self, user: User, namespace: str) -> list[Grant]:
        subjects: list[SubjectKey] = [("User", user.name), *(("Group", g) for g in user.groups)]
        grants = [g for s in subjects for g in self._index.get(s, ()) if not g.namespace or g.namespace == namespace]
        grants.sort(key=lambda g: bool(g.namespace))
        return grants

    def _refresh(self) -> None:
        version = self._reader.version  # asked on every request: no loop
        seen = (version(ROLES), version(CLUSTER_ROLES), version(ROLE_BINDINGS), version(CLUSTER_ROLE_BINDINGS))
        if seen == self._seen:
            return
        self._rules.clear()
        self._permits.clear()
        self._missing.clear()
        if seen[2:] != self._seen[2:]:
            self._index = build_index(self._reader.list(CLUSTER_ROLE_BINDINGS), self._reader.list(ROLE_BINDINGS))
        self._seen = seen


def build_index(
    cluster_bindings: list[ClusterRoleBinding], bindings: list[RoleBinding]
) -> dict[SubjectKey, list[Grant]]:
    """What is granted to each subject. Service accounts without a namespace are those of the binding's."""
    index: dict[SubjectKey, list[Grant]] = {}
    all_bindings: list[ClusterRoleBinding | RoleBinding] = [*cluster_bindings, *bindings]
    for binding in all_bindings:
        for key, grant in _grants_of(binding):
            index.setdefault(key, []).append(grant)
    return index


def _grants_of(binding: ClusterRoleBinding | RoleBinding) -> Iterator[tuple[SubjectKey, Grant]]:
    namespace = binding.metadata.namespace if isinstance(binding, RoleBinding) else ""
    kind, name = binding.kind, binding.metadata.name
    for subject in binding.subjects:
        if subject.kind == "ServiceAccount":
            home = subject.namespace or namespace
            if not home:
                continue  # names nobody: a cluster-wide binding must tell the namespace
            shown = f'ServiceAccount "{subject.name}/{home}"'
            yield ("User", user_name(home, subject.name)), Grant(namespace, shown, binding.roleRef, kind, name)
        elif subject.kind in ("User", "Group"):
            shown = f'{subject.kind} "{subject.name}"'
            yield (subject.kind, subject.name), Grant(namespace, shown, binding.roleRef, kind, name)


def _missing_role(ref: RoleRef) -> str:
    plural = "role" if ref.kind == "Role" else "clusterrole"
    return f'{plural}.rbac.authorization.k8s.io "{ref.name}" not found'


def _join_missing(missing: list[str]) -> str:
    unique = list(dict.fromkeys(missing))
    return f"RBAC: {unique[0]}" if len(unique) == 1 else f"RBAC: [{', '.join(unique)}]"
