"""The roles and bindings of a new cluster, and what to mend in those of an old one.

Called by the API server at start. Objects annotated `rbac.authorization.kubernetes.io/autoupdate: "true"` get back
rules and subjects they have lost; what was added to them stays. Without the annotation they are left alone.
Source: "Default roles and role bindings" in the RBAC documentation.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kybern.api import codec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from kybern.apiserver.authorize import rules
from kybern.apiserver.authorize.default_roles import components, controllers, people

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
GROUP = "rbac.authorization.k8s.io"
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_CONTROLLER = "system:controller:"

RbacObject = ClusterRole | ClusterRoleBinding | Role | RoleBinding

# Roles that are unions of others: name -> (label selected, labels it carries itself).
_AGGREGATED = {
    "admin": ("admin", ()),
    "edit": ("edit", ("admin",)),
    "view": ("view", ("edit",)),
}
_AGGREGATED_PARTS = {f"system:aggregate-to-{name}": name for name in _AGGREGATED}

_AUTHENTICATED = ("Group", "system:authenticated")
_UNAUTHENTICATED = ("Group", "system:unauthenticated")
_SCHEDULER = ("User", "system:kube-scheduler")
_CONTROLLER_MANAGER = ("User", "system:kube-controller-manager")
_DNS = ("User", "system:kybern-dns")
# Cluster role -> who holds it everywhere. A third part is the namespace of a service account.
_CLUSTER_BINDINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cluster-admin": (("Group", "system:masters"),),
    "system:monitoring": (("Group", "system:monitoring"),),
    "system:discovery": (_AUTHENTICATED,),
    "system:basic-user": (_AUTHENTICATED,),
    "system:public-info-viewer": (_AUTHENTICATED, _UNAUTHENTICATED),
    "system:node-proxier": (("User", "system:kube-proxy"),),
    "system:kube-controller-manager": (_CONTROLLER_MANAGER,),
    "system:kube-dns": (("ServiceAccount", "kube-dns", "kube-system"),),
    "system:kube-scheduler": (_SCHEDULER,),
    "system:volume-scheduler": (_SCHEDULER,),
    "system:service-account-issuer-discovery": (("Group", "system:serviceaccounts"),),
    "system:cluster-trust-bundle-discovery": (("Group", "system:serviceaccounts"),),
    "system:node": (),  # nodes are judged by the Node authorizer
    "system:kybern-dns": (_DNS,),
    "system:kybern-controllers": (_CONTROLLER_MANAGER,),
}


def _account(name: str) -> tuple[str, ...]:
    return ("ServiceAccount", name, "kube-system")


# (namespace, role) -> (name of the binding, who holds it)
_BINDINGS: dict[tuple[str, str], tuple[str, tuple[tuple[str, ...], ...]]] = {
    ("kube-public", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        (_account("bootstrap-signer"),),
    ),
    ("kube-system", "extension-apiserver-authentication-reader"): (
        "system::extension-apiserver-authentication-reader",
        (_CONTROLLER_MANAGER, _SCHEDULER),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        (_CONTROLLER_MANAGER, _account("kube-controller-manager"), _account("leader-election-controller")),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        (_SCHEDULER, _account("kube-scheduler")),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        (_account("bootstrap-signer"),),
    ),
    ("kube-system", "system:controller:cloud-provider"): (
        "system:controller:cloud-provider",
        (_account("cloud-provider"),),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        "system:controller:token-cleaner",
        (_account("token-cleaner"),),
    ),
    ("kube-system", "system:kybern-dns"): ("system:kybern-dns", (_DNS,)),
}


def parse_rules(text: str) -> list[PolicyRule]:
    """Rules in the notation of default_roles. Raises ValueError."""
    joined = textwrap.dedent(text).strip().replace("\n ", " ")
    return [_parse_rule(line) for line in joined.splitlines()]


def node_rules() -> list[PolicyRule]:
    """What the kubelet may do, as far as it does not depend on its node (that is the Node authorizer's)."""
    return parse_rules(components.CLUSTER_ROLES["system:node"])


@functools.cache
def default_objects() -> tuple[RbacObject, ...]:
    """All default roles and bindings, in the order to create them: roles first. Shared: do not change."""
    return (*_cluster_roles(), *_roles(), *_cluster_role_bindings(), *_role_bindings())


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """What is to be written at start."""

    create: tuple[RbacObject, ...] = ()
    update: tuple[RbacObject, ...] = ()
    # Bindings whose roleRef is wrong: it cannot be changed, so they are deleted and made anew.
    recreate: tuple[RbacObject, ...] = ()


def plan_bootstrap(existing: Iterable[RbacObject]) -> BootstrapPlan:
    """What is missing from `existing`. `existing` may hold any roles and bindings; ours are found by name."""
    known = {_key(o): o for o in existing}
    create, update, recreate = [], [], []
    for wanted in default_objects():
        found = known.get(_key(wanted))
        if found is None:
            create.append(wanted)
        elif found.metadata.annotations.get(AUTOUPDATE) != "true":
            continue
        elif _is_other_role(wanted, found):
            recreate.append(wanted)
        else:
            mended = _mend(wanted, found)
            if mended != found:
                update.append(mended)
    return BootstrapPlan(tuple(create), tuple(update), tuple(recreate))


def _mend(wanted: RbacObject, found: RbacObject) -> RbacObject:
    mended = codec.clone(found)
    for name, value in wanted.metadata.labels.items():
        mended.metadata.labels.setdefault(name, value)
    if isinstance(wanted, ClusterRole) and isinstance(mended, ClusterRole) and wanted.aggregationRule:
        selectors = mended.aggregationRule.clusterRoleSelectors if mended.aggregationRule else []
        lost = [s for s in wanted.aggregationRule.clusterRoleSelectors if s not in selectors]
        mended.aggregationRule = AggregationRule(clusterRoleSelectors=[*selectors, *lost])
    elif isinstance(wanted, ClusterRole | Role) and isinstance(mended, ClusterRole | Role):
        # Of most nobody has touched the rules, and to look at each rule of each takes a third of a start.
        uncovered = rules.plan_uncovered(mended.rules, wanted.rules) if mended.rules != wanted.rules else []
        mended.rules = [*mended.rules, *rules.plan_compact(uncovered)]
    elif isinstance(wanted, ClusterRoleBinding | RoleBinding) and isinstance(mended, ClusterRoleBinding | RoleBinding):
        mended.subjects = [*mended.subjects, *(s for s in wanted.subjects if s not in mended.subjects)]
    return mended


def _is_other_role(wanted: RbacObject, found: RbacObject) -> bool:
    if isinstance(wanted, ClusterRoleBinding | RoleBinding) and isinstance(found, ClusterRoleBinding | RoleBinding):
        return (wanted.roleRef.kind, wanted.roleRef.name) != (found.roleRef.kind, found.roleRef.name)
    return False


def _key(obj: RbacObject) -> tuple[str, str, str]:
    return obj.kind, obj.metadata.namespace, obj.metadata.name


def _parse_rule(line: str) -> PolicyRule:
    columns = [c.split() for c in line.split("|")]
    match columns:
        case [verbs, paths] if all(p.startswith(("/", "*")) for p in paths):
            return PolicyRule(verbs=verbs, nonResourceURLs=paths)
        case [verbs, groups, resources, *names] if len(names) <= 1:
            groups = ["" if g == "core" else g for g in groups]
            return PolicyRule(
                verbs=verbs, apiGroups=groups, resources=resources, resourceNames=names[0] if names else []
            )
    raise ValueError(f"not a rule: {line!r}")


def _cluster_roles() -> list[ClusterRole]:
    roles = [
        ClusterRole(
            metadata=_meta(name, labels={_AGGREGATE + label: "true" for label in labels}),
            aggregationRule=AggregationRule(
                clusterRoleSelectors=[LabelSelector(matchLabels={_AGGREGATE + selected: "true"})]
            ),
        )
        for name, (selected, labels) in _AGGREGATED.items()
    ]
    tables = {**people.CLUSTER_ROLES, **components.CLUSTER_ROLES, **controllers.CLUSTER_ROLES}
    for name, text in tables.items():
        part = _AGGREGATED_PARTS.get(name)
        labels = {_AGGREGATE + part: "true"} if part else {}
        roles.append(ClusterRole(metadata=_meta(name, labels=labels), rules=parse_rules(text)))
    all_controllers = [r for text in controllers.CLUSTER_ROLES.values() for r in parse_rules(text)]
    roles.append(ClusterRole(metadata=_meta("system:kybern-controllers"), rules=rules.plan_compact(all_controllers)))
    return roles


def _roles() -> list[Role]:
    return [
        Role(metadata=_meta(name, namespace), rules=parse_rules(text))
        for (namespace, name), text in components.ROLES.items()
    ]


def _cluster_role_bindings() -> list[ClusterRoleBinding]:
    holders = dict(_CLUSTER_BINDINGS)
    for name in controllers.CLUSTER_ROLES:
        holders[name] = (_account(name.removeprefix(_CONTROLLER)),)
    return [
        ClusterRoleBinding(
            metadata=_meta(role),
            roleRef=RoleRef(apiGroup=GROUP, kind="ClusterRole", name=role),
            subjects=_subjects(subjects),
        )
        for role, subjects in holders.items()
    ]


def _role_bindings() -> list[RoleBinding]:
    return [
        RoleBinding(
            metadata=_meta(name, namespace),
            roleRef=RoleRef(apiGroup=GROUP, kind="Role", name=role),
            subjects=_subjects(subjects),
        )
        for (namespace, role), (name, subjects) in _BINDINGS.items()
    ]


def _subjects(subjects: Sequence[tuple[str, ...]]) -> list[Subject]:
    return [_subject(*s) for s in subjects]


def _subject(kind: str, name: str, namespace: str = "") -> Subject:
    if kind == "ServiceAccount":
        return Subject(kind=kind, name=name, namespace=namespace)
    return Subject(kind=kind, name=name, apiGroup=GROUP)


def _meta(name: str, namespace: str = "", labels: dict[str, str] | None = None) -> ObjectMeta:
    return ObjectMeta(
        name=name, namespace=namespace, annotations={AUTOUPDATE: "true"}, labels={**BOOTSTRAPPING, **(labels or {})}
    )
