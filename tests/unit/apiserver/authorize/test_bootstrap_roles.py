from __future__ import annotations

import pytest

from kybern.api import codec
from kybern.api.rbac_v1 import ClusterRole, PolicyRule, Subject
from kybern.apiserver.authorize import bootstrap_roles
from kybern.apiserver.authorize.aggregation import plan_aggregation
from kybern.apiserver.authorize.attributes import Attributes
from kybern.apiserver.authorize.bootstrap_roles import default_objects, plan_bootstrap
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import ANONYMOUS, User
from kybern.machinery import scheme
from kybern.testing.objects import ObjectTable


def started() -> ObjectTable:
    table = ObjectTable(*default_objects())
    for _ in range(3):  # admin is a union of edit, which is one of view
        for role in plan_aggregation(table.list("clusterroles.rbac.authorization.k8s.io")):
            table.put(role)
    assert not plan_aggregation(table.list("clusterroles.rbac.authorization.k8s.io"))
    return table


def all_of(table: ObjectTable) -> list[bootstrap_roles.RbacObject]:
    kinds = ("clusterroles", "roles", "clusterrolebindings", "rolebindings")
    return [o for k in kinds for o in table.list(f"{k}.rbac.authorization.k8s.io")]


def test_a_new_cluster_gets_everything() -> None:
    plan = plan_bootstrap([])
    assert plan.create == default_objects()
    assert not plan.update
    assert not plan.recreate


def test_a_started_cluster_needs_nothing() -> None:
    plan = plan_bootstrap(all_of(started()))
    assert (plan.create, plan.update, plan.recreate) == ((), (), ())


def test_every_binding_finds_its_role_and_every_name_is_unique() -> None:
    table = ObjectTable(*default_objects())
    assert len(all_of(table)) == len(default_objects())
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in table.list(f"{kind}.rbac.authorization.k8s.io"):
            plural = "clusterroles" if binding.roleRef.kind == "ClusterRole" else "roles"
            namespace = "" if plural == "clusterroles" else binding.metadata.namespace
            assert table.get(f"{plural}.rbac.authorization.k8s.io", namespace, binding.roleRef.name)


def test_rules_name_resources_that_exist() -> None:
    served = {(r.group, r.plural) for r in scheme.RESOURCES}
    elsewhere = {"extensions", "metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io", "*"}
    # Verbs on these are checked, though nothing is served under the name.
    virtual = {("certificates.k8s.io", "signers")}
    for role in all_of(ObjectTable(*default_objects())):
        for rule in getattr(role, "rules", []):
            for group in set(rule.apiGroups) - elsewhere:
                for resource in rule.resources:
                    plural = resource.partition("/")[0]
                    known = plural == "*" or any((g, plural) in served | virtual for g in rule.apiGroups)
                    assert known, f"{role.metadata.name}: {group} {resource}"


def test_lost_rules_and_subjects_come_back_and_added_ones_stay() -> None:
    table = started()
    role = codec.clone(table.get("clusterroles.rbac.authorization.k8s.io", "", "system:discovery"))
    extra = PolicyRule(verbs=["get"], nonResourceURLs=["/extra"])
    role.rules = [extra]
    binding = codec.clone(table.get("clusterrolebindings.rbac.authorization.k8s.io", "", "system:discovery"))
    binding.subjects = [Subject(kind="User", name="jane")]
    table.put(role)
    table.put(binding)
    update = {(o.kind, o.metadata.name): o for o in plan_bootstrap(all_of(table)).update}
    assert set(update) == {("ClusterRole", "system:discovery"), ("ClusterRoleBinding", "system:discovery")}
    mended = update[("ClusterRole", "system:discovery")]
    assert isinstance(mended, ClusterRole)
    assert extra in mended.rules
    assert any("/api" in r.nonResourceURLs for r in mended.rules)
    names = [s.name for s in update[("ClusterRoleBinding", "system:discovery")].subjects]  # type: ignore[union-attr]
    assert names == ["jane", "system:authenticated"]
    for obj in update.values():
        table.put(obj)
    assert not plan_bootstrap(all_of(table)).update


def test_what_is_not_to_be_updated_is_left_alone() -> None:
    table = started()
    role = codec.clone(table.get("clusterroles.rbac.authorization.k8s.io", "", "system:discovery"))
    role.rules = []
    role.metadata.annotations["rbac.authorization.kubernetes.io/autoupdate"] = "false"
    table.put(role)
    assert not plan_bootstrap(all_of(table)).update


def test_a_binding_of_another_role_is_made_anew() -> None:
    table = started()
    binding = codec.clone(table.get("clusterrolebindings.rbac.authorization.k8s.io", "", "system:discovery"))
    binding.roleRef.name = "cluster-admin"
    table.put(binding)
    assert [o.metadata.name for o in plan_bootstrap(all_of(table)).recreate] == ["system:discovery"]


def test_admin_holds_all_of_edit_and_edit_all_of_view() -> None:
    table = started()
    rules = {r.metadata.name: r.rules for r in table.list("clusterroles.rbac.authorization.k8s.io")}
    assert all(r in rules["edit"] for r in rules["view"])
    assert all(r in rules["admin"] for r in rules["edit"])
    assert any("roles" in r.resources for r in rules["admin"])
    assert not any("secrets" in r.resources for r in rules["view"])


SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))
CONTROLLERS = User("system:kube-controller-manager", groups=("system:authenticated",))
PROXY = User("system:kube-proxy", groups=("system:authenticated",))
DNS = User("system:kybern-dns", groups=("system:authenticated",))
JANE = User("jane", groups=("system:authenticated",))
ROBOT = User("system:serviceaccount:ns:r", groups=("system:serviceaccounts", "system:authenticated"))


@pytest.mark.parametrize(
    ("user", "asked", "allowed"),
    [
        (SCHEDULER, Attributes("create", "", "pods", "binding", "ns", "p"), True),
        (SCHEDULER, Attributes("watch", "", "nodes"), True),
        (SCHEDULER, Attributes("get", "", "secrets", "", "ns", "s"), False),
        (SCHEDULER, Attributes("update", "coordination.k8s.io", "leases", "", "kube-system", "kube-scheduler"), True),
        (CONTROLLERS, Attributes("create", "", "pods", "", "ns"), True),
        (CONTROLLERS, Attributes("update", "apps", "deployments", "status", "ns", "d"), True),
        (CONTROLLERS, Attributes("create", "", "serviceaccounts", "token", "kube-system", "x"), True),
        (CONTROLLERS, Attributes("deletecollection", "example.com", "widgets", "", "ns"), True),
        (CONTROLLERS, Attributes("patch", "", "nodes", "", "", "n"), True),
        (CONTROLLERS, Attributes("impersonate", "", "users", "", "", "jane"), False),
        (PROXY, Attributes("watch", "discovery.k8s.io", "endpointslices"), True),
        (PROXY, Attributes("get", "", "secrets", "", "ns", "s"), False),
        (DNS, Attributes("watch", "", "services"), True),
        (DNS, Attributes("update", "", "services", "", "kube-system", "kube-dns"), True),
        (DNS, Attributes("update", "", "services", "", "default", "x"), False),
        (JANE, Attributes("get", path="/apis/apps/v1"), True),
        (JANE, Attributes("get", path="/openapi/v3/api/v1"), True),
        (JANE, Attributes("get", path="/metrics"), False),
        (JANE, Attributes("create", "authorization.k8s.io", "selfsubjectaccessreviews"), True),
        (JANE, Attributes("list", "", "pods", "", "default"), False),
        (ROBOT, Attributes("get", path="/.well-known/openid-configuration"), True),
        (JANE, Attributes("get", path="/openid/v1/jwks"), False),
        (ANONYMOUS, Attributes("get", path="/healthz"), True),
        (ANONYMOUS, Attributes("get", path="/version"), True),
        (ANONYMOUS, Attributes("get", path="/api"), False),
    ],
)
def test_who_may_what_in_a_new_cluster(user: User, asked: Attributes, allowed: bool) -> None:
    assert Authorizers(started()).authorize(user, asked).allowed == allowed
