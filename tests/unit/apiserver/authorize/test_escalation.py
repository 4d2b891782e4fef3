from __future__ import annotations

import pytest

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
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.authorize.escalation import check_binding, check_role
from kybern.apiserver.request import User
from kybern.machinery.status import ApiError
from kybern.testing.objects import ObjectTable

JANE = User("jane", groups=("devs",))
ADMIN = User("admin", groups=("system:masters",))
ALL = PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"])
READ = PolicyRule(verbs=["get", "list"], apiGroups=["", "apps"], resources=["pods", "deployments"])


def authorizers(*more: PolicyRule) -> Authorizers:
    ref = RoleRef(apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name="held")
    subjects = [Subject(kind="User", name="jane")]
    return Authorizers(
        ObjectTable(
            ClusterRole(metadata=ObjectMeta(name="held"), rules=[READ, *more]),
            ClusterRole(metadata=ObjectMeta(name="all"), rules=[ALL]),
            ClusterRoleBinding(metadata=ObjectMeta(name="held"), roleRef=ref, subjects=subjects),
        )
    )


def role(*of: PolicyRule) -> Role:
    return Role(metadata=ObjectMeta(name="r", namespace="ns"), rules=list(of))


def binding(name: str) -> RoleBinding:
    ref = RoleRef(apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name=name)
    subjects = [Subject(kind="User", name="joe")]
    return RoleBinding(metadata=ObjectMeta(name="b", namespace="ns"), roleRef=ref, subjects=subjects)


def refusal(check: object, user: User, obj: object, *more: PolicyRule, old: object = None) -> str:
    with pytest.raises(ApiError) as raised:
        check(authorizers(*more), user, obj, old)  # type: ignore[operator]
    return str(raised.value)


def test_one_may_grant_what_one_holds() -> None:
    check_role(
        authorizers(), JANE, role(PolicyRule(verbs=["get"], apiGroups=["apps"], resources=["deployments"])), None
    )
    check_binding(authorizers(), JANE, binding("held"), None)


def test_one_may_not_grant_more() -> None:
    wanted = role(PolicyRule(verbs=["get", "delete"], apiGroups=["apps"], resources=["deployments"]))
    assert refusal(check_role, JANE, wanted) == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=["devs"]) is attempting to grant RBAC '
        'permissions not currently held:\n{APIGroups:["apps"], Resources:["deployments"], Verbs:["delete"]}'
    )
    assert "not currently held" in refusal(check_binding, JANE, binding("all"))


def test_masters_may_grant_everything() -> None:
    check_role(authorizers(), ADMIN, role(PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"])), None)
    check_binding(authorizers(), ADMIN, binding("all"), None)


def test_the_verbs_escalate_and_bind_lift_the_check() -> None:
    escalate = PolicyRule(verbs=["escalate"], apiGroups=["rbac.authorization.k8s.io"], resources=["roles"])
    check_role(authorizers(escalate), JANE, role(PolicyRule(verbs=["x"], apiGroups=["y"], resources=["z"])), None)
    bind = PolicyRule(
        verbs=["bind"], apiGroups=["rbac.authorization.k8s.io"], resources=["clusterroles"], resourceNames=["all"]
    )
    check_binding(authorizers(bind), JANE, binding("all"), None)


def test_an_update_that_grants_nothing_new_is_not_checked() -> None:
    old = role(PolicyRule(verbs=["x"], apiGroups=["y"], resources=["z"]))
    changed = codec.clone(old)
    changed.metadata.labels["a"] = "b"
    check_role(authorizers(), JANE, changed, old)
    bound = binding("all")
    check_binding(authorizers(), JANE, codec.clone(bound), bound)


def test_a_new_subject_is_checked() -> None:
    changed = binding("all")
    changed.subjects.append(Subject(kind="User", name="jane"))
    assert "not currently held" in refusal(check_binding, JANE, changed, old=binding("all"))


def test_a_role_that_does_not_exist_cannot_be_bound() -> None:
    assert refusal(check_binding, JANE, binding("none")) == ('rolebindings.rbac.authorization.k8s.io "none" not found')


def test_who_aggregates_must_hold_everything() -> None:
    rule = AggregationRule(clusterRoleSelectors=[LabelSelector(matchLabels={"a": "b"})])
    aggregated = ClusterRole(metadata=ObjectMeta(name="r"), aggregationRule=rule)
    assert refusal(check_role, JANE, aggregated) == (
        'clusterroles.rbac.authorization.k8s.io "r" is forbidden: '
        "must have cluster-admin privileges to use the aggregationRule"
    )


@pytest.mark.parametrize(
    ("owned", "wanted", "covered"),
    [
        (ALL, PolicyRule(verbs=["x"], apiGroups=["y"], resources=["z/w"], resourceNames=["n"]), True),
        (ALL, PolicyRule(verbs=["get"], nonResourceURLs=["/x"]), False),
        (READ, PolicyRule(verbs=["*"], apiGroups=[""], resources=["pods"]), False),
        (READ, PolicyRule(verbs=["get"], apiGroups=["*"], resources=["pods"]), False),
        (READ, PolicyRule(verbs=["get"], apiGroups=[""], resources=["*"]), False),
        (READ, PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"]), True),
        (READ, PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods/log"]), False),
        (
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["*/log"]),
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods/log"]),
            True,
        ),
        (
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"]),
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"]),
            False,
        ),
        (
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a", "b"]),
            PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["b", "c"]),
            False,
        ),
        (
            PolicyRule(verbs=["get"], nonResourceURLs=["/a/*"]),
            PolicyRule(verbs=["get"], nonResourceURLs=["/a/b", "/a/b/*"]),
            True,
        ),
        (PolicyRule(verbs=["get"], nonResourceURLs=["/a/*"]), PolicyRule(verbs=["get"], nonResourceURLs=["*"]), False),
        (PolicyRule(verbs=["get"], nonResourceURLs=["*"]), PolicyRule(verbs=["get"], nonResourceURLs=["/a"]), True),
        (READ, PolicyRule(verbs=[], apiGroups=["x"], resources=["y"]), True),
    ],
)
def test_covering(owned: PolicyRule, wanted: PolicyRule, covered: bool) -> None:
    assert (not rules.plan_uncovered([owned], [wanted])) == covered
