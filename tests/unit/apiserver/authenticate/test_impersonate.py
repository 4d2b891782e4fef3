from __future__ import annotations

import pytest

from kybern.api.meta_v1 import ObjectMeta
from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from kybern.apiserver.authenticate.impersonate import impersonate
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Request, User
from kybern.machinery.status import ApiError
from kybern.testing.objects import ObjectTable

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
DEPUTY = User("deputy", groups=("system:authenticated",))


def authorizers() -> Authorizers:
    rules = [
        PolicyRule(verbs=["impersonate"], apiGroups=[""], resources=["users"], resourceNames=["jane"]),
        PolicyRule(verbs=["impersonate"], apiGroups=[""], resources=["groups"], resourceNames=["devs"]),
        PolicyRule(verbs=["impersonate"], apiGroups=[""], resources=["serviceaccounts"]),
        PolicyRule(
            verbs=["impersonate"],
            apiGroups=["authentication.k8s.io"],
            resources=["userextras/scopes"],
            resourceNames=["a"],
        ),
    ]
    return Authorizers(
        ObjectTable(
            ClusterRole(metadata=ObjectMeta(name="deputy"), rules=rules),
            ClusterRoleBinding(
                metadata=ObjectMeta(name="deputy"),
                roleRef=RoleRef(kind="ClusterRole", name="deputy"),
                subjects=[Subject(kind="User", name="deputy")],
            ),
        )
    )


def act(user: User, **headers: str) -> User:
    request = Request("GET", "/api", "/api", {}, {k.replace("_", "-"): v for k, v in headers.items()})
    found = impersonate(request, user, authorizers())
    assert not [h for h in request.headers if h.startswith("impersonate-")]
    return found


def test_without_headers_one_stays_oneself() -> None:
    assert act(DEPUTY) is DEPUTY


def test_an_admin_may_act_as_anybody() -> None:
    headers = {"impersonate_user": "jane", "impersonate_group": "a, b", "impersonate_uid": "7"}
    found = act(ADMIN, **headers, impersonate_extra_k="v, w")
    assert found == User("jane", "7", ("a", "b", "system:authenticated"), {"k": ("v", "w")})


def test_a_service_account_gets_its_groups() -> None:
    found = act(DEPUTY, impersonate_user="system:serviceaccount:ns:robot")
    assert found.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")


def test_nobody_is_not_authenticated() -> None:
    assert act(ADMIN, impersonate_user="system:anonymous").groups == ("system:unauthenticated",)


def test_what_is_allowed_works() -> None:
    headers = {"impersonate_user": "jane", "impersonate_group": "devs", "impersonate_extra_scopes": "a"}
    assert act(DEPUTY, **headers).name == "jane"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"impersonate_user": "eve"},
            (
                'users "eve" is forbidden: User "deputy" cannot impersonate resource "users" in API group "" '
                "at the cluster scope"
            ),
        ),
        (
            {"impersonate_user": "jane", "impersonate_group": "devs, system:masters"},
            (
                'groups "system:masters" is forbidden: User "deputy" cannot impersonate resource "groups" '
                'in API group "" at the cluster scope'
            ),
        ),
        (
            {"impersonate_user": "jane", "impersonate_uid": "1"},
            (
                'uids.authentication.k8s.io "1" is forbidden: User "deputy" cannot impersonate resource "uids" '
                'in API group "authentication.k8s.io" at the cluster scope'
            ),
        ),
        (
            {"impersonate_user": "jane", "impersonate_extra_scopes": "a, b"},
            (
                'userextras.authentication.k8s.io "b" is forbidden: User "deputy" cannot impersonate resource '
                '"userextras/scopes" in API group "authentication.k8s.io" at the cluster scope'
            ),
        ),
    ],
)
def test_each_part_needs_permission(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError) as raised:
        act(DEPUTY, **headers)
    assert (raised.value.code, str(raised.value)) == (403, message)


@pytest.mark.parametrize("header", ["impersonate_group", "impersonate_uid", "impersonate_extra_k"])
def test_parts_without_a_user_are_refused(header: str) -> None:
    with pytest.raises(ApiError) as raised:
        act(ADMIN, **{header: "x"})
    assert raised.value.code == 400
