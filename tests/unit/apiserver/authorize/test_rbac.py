from __future__ import annotations

import pytest

from kybern.api import codec
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject
from kybern.apiserver.authorize.attributes import Attributes, forbidden, of_request
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import RequestInfo, User
from kybern.testing.objects import ObjectTable

JANE = User("jane", groups=("devs", "system:authenticated"))
ROBOT = User("system:serviceaccount:ns:robot", groups=("system:serviceaccounts", "system:authenticated"))
READ_PODS = PolicyRule(verbs=["get", "list"], apiGroups=[""], resources=["pods"])


def role(name: str, *rules: PolicyRule, namespace: str = "") -> Role | ClusterRole:
    kind = Role if namespace else ClusterRole
    return kind(metadata=ObjectMeta(name=name, namespace=namespace), rules=list(rules))


def bind(name: str, subject: Subject, namespace: str = "", kind: str = "") -> RoleBinding | ClusterRoleBinding:
    binding = RoleBinding if namespace else ClusterRoleBinding
    ref = RoleRef(apiGroup="rbac.authorization.k8s.io", kind=kind or "ClusterRole", name=name)
    return binding(metadata=ObjectMeta(name=f"b-{name}", namespace=namespace), roleRef=ref, subjects=[subject])


USER = Subject(kind="User", name="jane")


def ask(*objects: object, user: User = JANE, **attributes: str) -> bool:
    asked = Attributes(**{"verb": "get", "resource": "pods", **attributes})
    return Authorizers(ObjectTable(*objects)).authorize(user, asked).allowed


def test_nobody_may_do_anything_at_first() -> None:
    assert not ask()


def test_masters_may_do_everything() -> None:
    assert ask(user=User("x", groups=("system:masters",)), verb="anything", resource="whatever")


def test_a_cluster_binding_holds_in_every_namespace() -> None:
    objects = (role("r", READ_PODS), bind("r", USER))
    assert ask(*objects, namespace="a")
    assert ask(*objects)
    assert not ask(*objects, verb="delete")
    assert not ask(*objects, resource="secrets")
    assert not ask(*objects, group="apps")
    assert not ask(*objects, user=ROBOT)


def test_a_binding_in_a_namespace_holds_there_only() -> None:
    objects = (role("r", READ_PODS), bind("r", USER, "a"))
    assert ask(*objects, namespace="a")
    assert not ask(*objects, namespace="b")
    assert not ask(*objects)


def test_a_role_is_looked_for_in_the_bindings_namespace() -> None:
    assert ask(role("r", READ_PODS, namespace="a"), bind("r", USER, "a", "Role"), namespace="a")
    assert not ask(role("r", READ_PODS, namespace="b"), bind("r", USER, "a", "Role"), namespace="a")


@pytest.mark.parametrize(
    ("subject", "user", "allowed"),
    [
        (Subject(kind="Group", name="devs"), JANE, True),
        (Subject(kind="Group", name="jane"), JANE, False),
        (Subject(kind="User", name="devs"), JANE, False),
        (Subject(kind="ServiceAccount", name="robot", namespace="ns"), ROBOT, True),
        (Subject(kind="ServiceAccount", name="robot", namespace="other"), ROBOT, False),
        (Subject(kind="ServiceAccount", name="robot"), ROBOT, False),
        (Subject(kind="User", name="system:serviceaccount:ns:robot"), ROBOT, True),
        (Subject(kind="Robot", name="robot"), ROBOT, False),
    ],
)
def test_subjects(subject: Subject, user: User, allowed: bool) -> None:
    assert ask(role("r", READ_PODS), bind("r", subject), user=user) == allowed


def test_a_service_account_without_namespace_is_the_bindings() -> None:
    subject = Subject(kind="ServiceAccount", name="robot")
    assert ask(role("r", READ_PODS), bind("r", subject, "ns"), user=ROBOT, namespace="ns")


@pytest.mark.parametrize(
    ("rule", "asked", "allowed"),
    [
        (PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"]), {"verb": "x", "group": "g", "resource": "r"}, True),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["*"]), {"subresource": "log"}, True),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"]), {"subresource": "log"}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods/log"]), {"subresource": "log"}, True),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods/log"]), {}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["*/log"]), {"subresource": "log"}, True),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["*/log"]), {"subresource": "exec"}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["*/log"]), {}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods/*"]), {"subresource": "log"}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"]), {"name": "a"}, True),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"]), {"name": "b"}, False),
        (PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"]), {}, False),
        (PolicyRule(verbs=["get"], nonResourceURLs=["*"]), {}, False),
        (PolicyRule(verbs=["get"], nonResourceURLs=["/logs"]), {"resource": "", "path": "/logs"}, True),
        (PolicyRule(verbs=["get"], nonResourceURLs=["/logs"]), {"resource": "", "path": "/logs/x"}, False),
        (PolicyRule(verbs=["get"], nonResourceURLs=["/logs/*"]), {"resource": "", "path": "/logs/x/y"}, True),
        (PolicyRule(verbs=["get"], nonResourceURLs=["/logs/*"]), {"resource": "", "path": "/logs"}, False),
        (PolicyRule(verbs=["get"], nonResourceURLs=["*"]), {"resource": "", "path": "/anything"}, True),
        (PolicyRule(verbs=["get"], apiGroups=["*"], resources=["*"]), {"resource": "", "path": "/logs"}, False),
        (PolicyRule(verbs=["get"]), {}, False),
    ],
)
def test_rules(rule: PolicyRule, asked: dict[str, str], allowed: bool) -> None:
    assert ask(role("r", rule), bind("r", USER), **asked) == allowed


def test_paths_are_granted_for_the_whole_cluster_only() -> None:
    rule = PolicyRule(verbs=["get"], nonResourceURLs=["*"])
    assert not ask(role("r", rule), bind("r", USER, "a"), resource="", path="/logs")


def test_a_later_rule_without_names_allows_other_names() -> None:
    named = PolicyRule(verbs=["get"], apiGroups=[""], resources=["pods"], resourceNames=["a"])
    objects = (role("r", named, READ_PODS), bind("r", USER))
    assert ask(*objects, name="a")
    assert ask(*objects, name="b")


def test_a_decision_tells_binding_and_role() -> None:
    table = ObjectTable(role("r", READ_PODS), bind("r", USER, "a"))
    decision = Authorizers(table).authorize(JANE, Attributes("get", resource="pods", namespace="a"))
    assert decision.reason == 'RBAC: allowed by RoleBinding "b-r/a" of ClusterRole "r" to User "jane"'
    assert (decision.authorizer, decision.binding, decision.role) == ("rbac", "RoleBinding/a/b-r", "ClusterRole/r")


def test_a_binding_without_its_role_is_told() -> None:
    decision = Authorizers(ObjectTable(bind("r", USER))).authorize(JANE, Attributes("get", resource="pods"))
    assert decision.reason == 'RBAC: clusterrole.rbac.authorization.k8s.io "r" not found'


def test_decisions_follow_every_change() -> None:
    table = ObjectTable()
    authorizers = Authorizers(table)
    asked = Attributes("get", resource="pods", namespace="a")
    assert not authorizers.authorize(JANE, asked).allowed
    binding = table.put(bind("r", USER))
    assert not authorizers.authorize(JANE, asked).allowed
    found = table.put(role("r", READ_PODS))
    assert authorizers.authorize(JANE, asked).allowed
    empty = codec.clone(found)
    empty.rules = []
    table.put(empty)
    assert not authorizers.authorize(JANE, asked).allowed
    table.put(found)
    assert authorizers.authorize(JANE, asked).allowed
    table.remove("clusterrolebindings.rbac.authorization.k8s.io", "", binding.metadata.name)
    assert not authorizers.authorize(JANE, asked).allowed


def test_users_with_the_same_name_and_other_groups_are_told_apart() -> None:
    table = ObjectTable(role("r", READ_PODS), bind("r", Subject(kind="Group", name="devs")))
    authorizers = Authorizers(table)
    asked = Attributes("get", resource="pods")
    assert authorizers.authorize(JANE, asked).allowed
    assert not authorizers.authorize(User("jane"), asked).allowed


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            RequestInfo("list", "/api/v1/namespaces/y/pods", True, "", "v1", "pods", namespace="y"),
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "y"',
        ),
        (
            RequestInfo("get", "/", True, "apps", "v1", "deployments", "scale", "y", "web"),
            (
                'deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/scale" '
                'in API group "apps" in the namespace "y"'
            ),
        ),
        (
            RequestInfo("watch", "/", True, "", "v1", "nodes"),
            'nodes is forbidden: User "jane" cannot watch resource "nodes" in API group "" at the cluster scope',
        ),
        (RequestInfo("get", "/metrics"), 'forbidden: User "jane" cannot get path "/metrics"'),
    ],
)
def test_a_refusal_reads_as_upstreams(info: RequestInfo, message: str) -> None:
    error = forbidden(JANE, of_request(info))
    assert (error.code, error.reason, str(error)) == (403, "Forbidden", message)


def test_watching_one_object_by_name_is_asked_for_that_name() -> None:
    info = RequestInfo("watch", "/", True, "", "v1", "secrets", namespace="y")
    assert of_request(info, (("metadata.name", "=", "a"),)).name == "a"
    assert of_request(info, (("metadata.name", "!=", "a"),)).name == ""
    assert of_request(info, (("type", "=", "a"),)).name == ""
    named = PolicyRule(verbs=["watch"], apiGroups=[""], resources=["secrets"], resourceNames=["a"])
    authorizers = Authorizers(ObjectTable(role("r", named), bind("r", USER)))
    assert authorizers.authorize(JANE, of_request(info, (("metadata.name", "=", "a"),))).allowed
    assert not authorizers.authorize(JANE, of_request(info)).allowed
