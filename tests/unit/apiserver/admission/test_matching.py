"""Which writes a webhook or policy is asked about."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.api import codec
from kybern.api.admissionregistration_v1 import RuleWithOperations
from kybern.api.core_v1 import ConfigMap, Namespace
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.matching import Matcher, rule_accepts
from kybern.machinery import scheme
from kybern.testing.gate import ADMIN
from kybern.testing.objects import ObjectTable

CONFIG_MAPS = scheme.resource_for("", "v1", "configmaps")
NAMESPACES = scheme.resource_for("", "v1", "namespaces")
DEPLOYMENTS = scheme.resource_for("apps", "v1", "deployments")
AUTOSCALERS = [scheme.resource_for("autoscaling", v, "horizontalpodautoscalers") for v in ("v2", "v1")]


def write(
    operation: str = "CREATE", resource: Any = CONFIG_MAPS, subresource: str = "", namespace: str = "ns", **more: Any
) -> Attributes:
    fields = {"object": None, "old": None, "name": "x", **more}
    return Attributes(operation, resource, subresource, namespace, user=ADMIN, **fields)  # type: ignore[arg-type]


def rule(resources: str = "*", operations: str = "*", groups: str = "*", versions: str = "*", scope: str = "*") -> Any:
    return RuleWithOperations(
        apiGroups=groups.split(","),
        apiVersions=versions.split(","),
        operations=operations.split(","),
        resources=resources.split(","),
        scope=scope,
    )


@pytest.mark.parametrize(
    ("asked", "subresource", "accepted"),
    [
        ("deployments", "", True),
        ("deployments", "scale", False),
        ("deployments/scale", "scale", True),
        ("deployments/scale", "", False),
        ("deployments/*", "scale", True),
        ("*/scale", "scale", True),
        ("*/scale", "", False),
        ("*", "", True),
        ("*", "scale", False),
        ("*/*", "", True),
        ("*/*", "scale", True),
        ("pods,deployments", "", True),
        ("pods", "", False),
    ],
)
def test_a_rule_names_resources_and_subresources(asked: str, subresource: str, accepted: bool) -> None:
    assert rule_accepts(rule(asked), write("UPDATE", DEPLOYMENTS, subresource), DEPLOYMENTS) is accepted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        (rule(operations="CREATE,DELETE"), True),
        (rule(operations="UPDATE"), False),
        (rule(groups=""), False),
        (rule(groups="apps"), True),
        (rule(versions="v1beta1"), False),
        (rule(versions="v1beta1,v1"), True),
        (rule(scope="Namespaced"), True),
        (rule(scope="Cluster"), False),
    ],
)
def test_a_rule_names_operations_groups_versions_and_scope(wanted: Any, accepted: bool) -> None:
    assert rule_accepts(wanted, write(resource=DEPLOYMENTS), DEPLOYMENTS) is accepted  # type: ignore[arg-type]


def test_a_namespace_is_cluster_wide_although_it_is_in_itself() -> None:
    a = write("UPDATE", NAMESPACES, namespace="ns")
    assert rule_accepts(rule(scope="Cluster"), a, a.resource)
    assert not rule_accepts(rule(scope="Namespaced"), a, a.resource)


def found(matcher: Matcher, requested: Any) -> str | None:
    v2, v1 = AUTOSCALERS
    a = write(resource=v2, requested=requested)
    siblings = [r for r in (v2, v1) if r is not requested]
    wanted = matcher.find(a, siblings)  # type: ignore[arg-type]
    return wanted.version if wanted is not None else None


def test_another_version_is_found_unless_the_match_is_exact() -> None:
    v2, v1 = AUTOSCALERS
    for_v1 = [rule("horizontalpodautoscalers", versions="v1")]
    assert found(Matcher(for_v1, "Equivalent", None, None), v2) == "v1"
    assert found(Matcher(for_v1, "Exact", None, None), v2) is None
    assert found(Matcher(for_v1, "Exact", None, None), v1) == "v1"


def test_the_version_of_the_client_is_preferred() -> None:
    v2, v1 = AUTOSCALERS
    both = Matcher([rule("horizontalpodautoscalers")], "Equivalent", None, None)
    assert (found(both, v2), found(both, v1)) == ("v2", "v1")


def test_what_is_excluded_is_excluded_in_every_version() -> None:
    v2, _ = AUTOSCALERS
    excluded = [rule("horizontalpodautoscalers", versions="v1")]
    assert found(Matcher([rule()], "Equivalent", None, None, excluded), v2) is None
    assert found(Matcher([rule()], "Exact", None, None, excluded), v2) == "v2"


SPACES = ObjectTable(
    Namespace(metadata=ObjectMeta(name="ns", labels={"env": "prod"})), Namespace(metadata=ObjectMeta(name="other"))
)


def selects(a: Attributes, namespaces: Any = None, objects: Any = None) -> bool:
    def selector(text: Any) -> LabelSelector | None:
        return codec.from_json(LabelSelector, text)[0] if text is not None else None

    return Matcher([rule()], None, selector(namespaces), selector(objects)).selects(a, SPACES)


PROD = {"matchLabels": {"env": "prod"}}
NOT_PROD = {"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}


def test_a_namespace_selector_looks_at_the_labels_of_the_namespace() -> None:
    assert selects(write(), PROD)
    assert not selects(write(namespace="other"), PROD)
    assert not selects(write(), NOT_PROD)
    assert selects(write(namespace="other"), NOT_PROD)
    assert not selects(write(namespace="nowhere"), PROD)


def test_a_namespace_selector_lets_cluster_wide_objects_through() -> None:
    nodes = scheme.resource_for("", "v1", "nodes")
    assert selects(write(resource=nodes, namespace=""), PROD)


def test_a_namespace_is_selected_by_its_own_labels() -> None:
    prod = Namespace(metadata=ObjectMeta(name="new", labels={"env": "prod"}))
    plain = Namespace(metadata=ObjectMeta(name="new"))
    assert selects(write(resource=NAMESPACES, namespace="", object=prod), PROD)
    assert not selects(write(resource=NAMESPACES, namespace="", object=plain), PROD)
    assert not selects(write("UPDATE", resource=NAMESPACES, namespace="", object=plain, old=prod), PROD)
    assert selects(write("DELETE", resource=NAMESPACES, namespace="", old=prod), PROD)


def test_an_object_selector_looks_at_the_old_object_as_well() -> None:
    prod = ConfigMap(metadata=ObjectMeta(labels={"env": "prod"}))
    plain = ConfigMap()
    assert selects(write(object=prod), objects=PROD)
    assert not selects(write(object=plain), objects=PROD)
    assert selects(write("UPDATE", object=plain, old=prod), objects=PROD)
    assert selects(write("DELETE", old=prod), objects=PROD)


def test_what_can_have_no_labels_is_not_selected_by_labels() -> None:
    asked = {"kind": "PodExecOptions", "apiVersion": "v1"}
    assert not selects(write("CONNECT", object=asked), objects=PROD)
    assert not selects(write("CONNECT", object=asked), objects=NOT_PROD)
    assert selects(write("CONNECT", object=asked), objects={})
