"""Which requests an audit policy picks, and how much of them."""

from __future__ import annotations

import pytest

from kybern.apiserver import info
from kybern.apiserver.audit.policy import Level, Policy
from kybern.apiserver.request import Request, User
from kybern.wire.http1 import target as targets

JANE = User("jane", groups=("devs", "system:authenticated"))
HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"


def level(rules: str, method: str, target: str, user: User = JANE) -> Level:
    path, query = targets.split_target(target)
    request = Request(method, path, target, query, {})
    return Policy((HEAD + rules).encode()).scope_of(user, info.parse(request)).level


NAMESPACED = "/api/v1/namespaces/ns/"


@pytest.mark.parametrize(
    ("rule", "method", "target", "fits"),
    [
        ("users: [jane]", "GET", "/api", True),
        ("users: [joe]", "GET", "/api", False),
        ("userGroups: [ops, devs]", "GET", "/api", True),
        ("userGroups: [ops]", "GET", "/api", False),
        ("verbs: [list, watch]", "GET", "/api/v1/pods", True),
        ("verbs: [list, watch]", "GET", "/api/v1/pods?watch=1", True),
        ("verbs: [get]", "GET", "/api/v1/pods", False),
        ("namespaces: [ns]", "GET", NAMESPACED + "pods", True),
        ("namespaces: [other]", "GET", NAMESPACED + "pods", False),
        ('namespaces: [""]', "GET", "/api/v1/nodes", True),
        ('namespaces: [""]', "GET", "/healthz", False),
        ("resources: [{group: ''}]", "GET", NAMESPACED + "pods", True),
        ("resources: [{group: apps}]", "GET", NAMESPACED + "pods", False),
        ("resources: [{group: '', resources: [pods]}]", "GET", NAMESPACED + "pods/a", True),
        ("resources: [{group: '', resources: [pods]}]", "GET", NAMESPACED + "pods/a/log", False),
        ("resources: [{group: '', resources: [pods/log]}]", "GET", NAMESPACED + "pods/a/log", True),
        ("resources: [{group: '', resources: [pods/*]}]", "GET", NAMESPACED + "pods/a/log", True),
        ("resources: [{group: '', resources: [pods/*]}]", "GET", NAMESPACED + "pods/a", False),
        ("resources: [{group: '', resources: ['*/status']}]", "GET", NAMESPACED + "pods/a/status", True),
        ("resources: [{group: '', resources: ['*']}]", "GET", NAMESPACED + "pods/a/status", True),
        ("resources: [{group: '', resources: [pods], resourceNames: [a]}]", "GET", NAMESPACED + "pods/a", True),
        ("resources: [{group: '', resources: [pods], resourceNames: [a]}]", "GET", NAMESPACED + "pods/b", False),
        ("nonResourceURLs: ['/healthz*']", "GET", "/healthz/etcd", True),
        ("nonResourceURLs: ['/healthz']", "GET", "/healthz/etcd", False),
        ("nonResourceURLs: ['*']", "GET", "/api/v1/pods", False),
        ("users: [jane]\n  verbs: [create]", "GET", "/api/v1/pods", False),
    ],
)
def test_a_rule_fits_if_all_that_it_gives_does(rule: str, method: str, target: str, fits: bool) -> None:
    assert (level(f"- level: Metadata\n  {rule}", method, target) is Level.METADATA) == fits


def test_the_first_rule_that_fits_decides_and_without_one_nothing_is_recorded() -> None:
    rules = "- {level: None, users: [joe]}\n- {level: Request, users: [jane]}\n- {level: RequestResponse, verbs: [get]}"
    assert level(rules, "GET", "/api/v1/pods") is Level.REQUEST
    assert level(rules, "GET", "/api", User("joe")) is Level.NONE
    assert level(rules, "GET", "/api", User("ann")) is Level.REQUEST_RESPONSE
    assert level(rules, "POST", "/api", User("ann")) is Level.NONE


def test_stages_and_managed_fields_are_left_out_by_policy_and_rule() -> None:
    policy = Policy(
        b"apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n"
        b"- {level: Metadata, users: [a], omitStages: [ResponseStarted], omitManagedFields: false}\n- level: Metadata\n"
    )
    nothing = info.parse(Request("GET", "/", "/", {}, {}))
    first, second = policy.scope_of(User("a"), nothing), policy.scope_of(User("b"), nothing)
    assert first.omit_stages == {"RequestReceived", "ResponseStarted"}
    assert second.omit_stages == {"RequestReceived"}
    assert (first.omit_managed_fields, second.omit_managed_fields) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "apiVersion: v1\nkind: Policy\nrules: [{level: None}]",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []",
        HEAD + "- level: Everything",
        HEAD + "- users: [a]",
        HEAD + "- {level: None, omitStages: [Never]}",
        HEAD + "- {level: None, nonResourceURLs: [healthz]}",
        HEAD + "- {level: None, nonResourceURLs: ['/a*b']}",
        HEAD + "- {level: None, nonResourceURLs: ['/a'], resources: [{group: ''}]}",
        HEAD + "- {level: None, resources: [{group: apps/v1}]}",
        HEAD + "- {level: None, resources: [{group: '', resourceNames: [a]}]}",
        HEAD + "- {level: None, user: [a]}",
    ],
)
def test_a_policy_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Policy(text.encode())
