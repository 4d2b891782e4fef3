from __future__ import annotations

import pytest

from kybern.api.meta_v1 import ObjectMeta
from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from kybern.apiserver import info
from kybern.apiserver.authenticate.impersonate import impersonate
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Request, User
from kybern.machinery.status import ApiError
from kybern.testing.objects import ObjectTable

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
DEPUTY = User("deputy", groups=("system:authenticated",))


def authorizers(*more: PolicyRule) -> Authorizers:
    rules = [
        *more,
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


def request_of(user: User, headers: dict[str, str], path: str = "/api/v1/pods") -> Request:
    request = Request("GET", path, path, {}, {k.replace("_", "-"): v for k, v in headers.items()})
    request.user = user
    request.info = info.parse(request)
    return request


def act(user: User, **headers: str) -> User:
    request = request_of(user, headers)
    impersonate(request, authorizers())
    assert not [h for h in request.headers if h.startswith("impersonate-")]
    return request.user


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


ON = 'pods is forbidden: User "{}" cannot impersonate-on:{}:list resource "pods" in API group "" at the cluster scope'
OLD = 'is forbidden: User "deputy" cannot impersonate resource'


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"impersonate_user": "eve"}, ON.format("deputy", "user-info")),
        ({"impersonate_user": "system:node:n1"}, ON.format("deputy", "arbitrary-node")),
        ({"impersonate_user": "system:node:"}, ON.format("deputy", "user-info")),
        (
            {"impersonate_user": "system:node:n1", "impersonate_group": "g"},
            f'users "system:node:n1" {OLD} "users" in API group "" at the cluster scope',
        ),
        (
            {"impersonate_user": "jane", "impersonate_group": "devs, system:masters"},
            ON.format("deputy", "user-info"),
        ),
        (
            {"impersonate_user": "system:serviceaccount:ns:robot", "impersonate_group": "system:masters"},
            f'groups "system:masters" {OLD} "groups" in API group "" at the cluster scope',
        ),
    ],
)
def test_a_refusal_tells_what_the_constrained_mode_lacks(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError) as raised:
        act(DEPUTY, **headers)
    assert (raised.value.code, str(raised.value)) == (403, message)


IDENTITY = "authentication.k8s.io"


def rule(verb: str, resource: str, group: str = IDENTITY, names: tuple[str, ...] = ()) -> PolicyRule:
    return PolicyRule(verbs=[verb], apiGroups=[group], resources=[resource], resourceNames=list(names))


@pytest.mark.parametrize(
    ("headers", "missing"),
    [
        ({"impersonate_group": "g"}, 'groups.authentication.k8s.io "g" is forbidden'),
        ({"impersonate_uid": "7"}, 'uids.authentication.k8s.io "7" is forbidden'),
        ({"impersonate_extra_k": "v"}, 'userextras.authentication.k8s.io "v" is forbidden'),
    ],
)
def test_each_part_needs_permission(headers: dict[str, str], missing: str) -> None:
    allowed = authorizers(rule("impersonate-on:user-info:list", "pods", ""), rule("impersonate:user-info", "users"))
    with pytest.raises(ApiError, match=missing):
        impersonate(request_of(DEPUTY, {"impersonate_user": "eve", **headers}), allowed)


def test_a_constrained_impersonator_acts_only_on_what_he_may() -> None:
    allowed = authorizers(rule("impersonate-on:user-info:list", "pods", ""), rule("impersonate:user-info", "users"))
    request = request_of(DEPUTY, {"impersonate_user": "eve"})
    impersonate(request, allowed)
    assert request.user == User("eve", groups=("system:authenticated",))
    with pytest.raises(ApiError, match="impersonate-on:user-info:list resource"):
        impersonate(request_of(DEPUTY, {"impersonate_user": "eve"}, "/api/v1/secrets"), allowed)
    with pytest.raises(ApiError, match="impersonate-on:user-info:get path"):
        impersonate(request_of(DEPUTY, {"impersonate_user": "eve"}, "/metrics"), allowed)


def test_an_account_acts_as_its_own_node_and_as_no_other() -> None:
    robot = User(
        "system:serviceaccount:ns:robot",
        groups=("system:authenticated",),
        extra={"authentication.kubernetes.io/node-name": ("n1",)},
    )
    allowed = authorizers(
        rule("impersonate-on:associated-node:list", "pods", ""), rule("impersonate:associated-node", "nodes")
    )
    binding = allowed.rbac._reader.get("clusterrolebindings.rbac.authorization.k8s.io", "", "deputy")
    assert binding is not None
    binding.subjects.append(Subject(kind="ServiceAccount", name="robot", namespace="ns"))
    request = request_of(robot, {"impersonate_user": "system:node:n1"})
    impersonate(request, allowed)
    assert request.user == User("system:node:n1", groups=("system:nodes", "system:authenticated"))
    with pytest.raises(ApiError, match="impersonate-on:arbitrary-node:list"):
        impersonate(request_of(robot, {"impersonate_user": "system:node:n2"}), allowed)


@pytest.mark.parametrize("header", ["impersonate_group", "impersonate_uid", "impersonate_extra_k"])
def test_parts_without_a_user_are_refused(header: str) -> None:
    with pytest.raises(ApiError) as raised:
        act(ADMIN, **{header: "x"})
    assert raised.value.code == 400
    assert str(raised.value).startswith('requested &user.DefaultInfo{Name:"", UID:"')
    assert str(raised.value).endswith("} without impersonating a user name")
