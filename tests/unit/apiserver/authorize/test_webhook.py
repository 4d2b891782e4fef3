"""Questions that another server decides, alone and among other authorizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kybern.apiserver.authorize import configuration
from kybern.apiserver.authorize.configuration import Entry
from kybern.apiserver.request import User
from kybern.client.http import Disconnected
from kybern.client.kubeconfig import Access
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock, LoopClock
from kybern.testing.webhooks import FakeWebhooks

URL = "https://judge.example/review"
JANE = User("jane", "7", ("devs",))
HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n"
HOOK = """- type: Webhook
  name: judge
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: {failure}
    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: /judge.conf}}
    matchConditions: [{conditions}]
"""
RBAC = "- {type: RBAC, name: rbac}\n"


def entries(text: str) -> tuple[Entry, ...]:
    return configuration.parse((HEAD + text).encode(), lambda _: Access(URL))


def hook(failure: str = "NoOpinion", *conditions: str) -> str:
    return HOOK.format(failure=failure, conditions=", ".join(f'{{expression: "{c}"}}' for c in conditions))


def ask(found: tuple[Entry, ...], hooks: FakeWebhooks, *targets: str) -> list[int]:
    async def scenario(api: Api) -> list[int]:
        jane = api.as_user(JANE)
        return [(await jane.get(target)).status for target in targets]

    return api_server.run(scenario, users=(JANE,), options={"authorization": found}, webhooks=hooks, clock=LoopClock())


def saying(**status: Any) -> FakeWebhooks:
    return FakeWebhooks({URL: lambda _: {"status": status}})


PODS = "/api/v1/namespaces/default/pods"


def test_a_review_says_who_wants_what() -> None:
    hooks = saying(allowed=True)
    target = f"{PODS}?labelSelector=a%3Db,c&fieldSelector=spec.nodeName%3Dn1"
    assert ask(entries(hook()), hooks, target, "/metrics") == [200, 200]
    first, second = (review["spec"] for _, review in hooks.seen)
    assert first["user"] == "jane"
    assert first["uid"] == "7"
    assert first["groups"] == ["devs", "system:authenticated"]
    assert first["resourceAttributes"] == {
        "namespace": "default",
        "verb": "list",
        "version": "v1",
        "resource": "pods",
        "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]},
        "labelSelector": {
            "requirements": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "Exists"}]
        },
    }
    assert second["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


def test_answers_are_remembered_as_long_as_they_may() -> None:
    hooks, clock = saying(allowed=False), FakeClock()

    async def scenario(api: Api) -> None:
        jane = api.as_user(JANE)
        assert [(await jane.get(PODS)).status for _ in range(3)] == [403, 403, 403]
        assert len(hooks.seen) == 1
        await clock.advance(31)
        hooks.hooks[URL] = lambda _: {"status": {"allowed": True}}
        assert [(await jane.get(PODS)).status for _ in range(3)] == [200, 200, 200]
        assert len(hooks.seen) == 2

    options = {"authorization": entries(hook())}
    api_server.run(scenario, users=(JANE,), options=options, webhooks=hooks, clock=clock)


def test_the_first_who_allows_or_denies_decides() -> None:
    allow_all = "- {type: AlwaysAllow, name: all}\n"
    assert ask(entries(hook() + allow_all), saying(allowed=False), PODS) == [200]
    assert ask(entries(hook() + allow_all), saying(allowed=False, denied=True, reason="never"), PODS) == [403]
    assert ask(entries(allow_all + hook()), saying(allowed=False, denied=True), PODS) == [200]
    assert ask(entries(hook() + RBAC), saying(allowed=False), PODS) == [403]


def test_a_server_that_fails_decides_by_its_policy() -> None:
    def broken(_: dict[str, Any]) -> Any:
        raise Disconnected("connection refused")

    for answer in (
        broken,
        lambda _: b"x",
        lambda _: (500, b""),
        lambda _: {"status": {"allowed": True, "denied": True}},
    ):
        hooks = FakeWebhooks({URL: answer})
        assert ask(entries(hook("NoOpinion") + "- {type: AlwaysAllow, name: all}\n"), hooks, PODS) == [200]
        assert ask(entries(hook("Deny") + "- {type: AlwaysAllow, name: all}\n"), hooks, PODS) == [403]


def test_conditions_say_what_is_asked() -> None:
    hooks = saying(allowed=True)
    condition = "has(request.resourceAttributes) && request.resourceAttributes.resource == 'pods'"
    found = entries(hook("Deny", condition, "!('system:masters' in request.groups)"))
    assert ask(found, hooks, PODS, "/api/v1/namespaces/default/configmaps", "/metrics") == [200, 403, 403]
    assert len(hooks.seen) == 1


def test_a_condition_that_fails_decides_by_the_policy_unless_another_is_false() -> None:
    hooks = saying(allowed=True)
    fails = "request.resourceAttributes.resource == 'pods'"
    rest = "- {type: AlwaysAllow, name: all}\n"
    assert ask(entries(hook("Deny", fails) + rest), hooks, "/metrics") == [403]
    assert ask(entries(hook("NoOpinion", fails) + rest), hooks, "/metrics") == [200]
    assert ask(entries(hook("Deny", fails, "request.user == 'joe'") + rest), hooks, "/metrics") == [200]
    assert hooks.seen == []


def test_writes_reviews_and_impersonation_ask_too() -> None:
    hooks = saying(allowed=True)

    async def scenario(api: Api) -> None:
        jane = api.as_user(JANE)
        (await jane.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})).ok()
        (await jane.get("/api/v1/namespaces/default/configmaps/a", impersonate_user="joe")).ok()
        asked = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        review = (await jane.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", asked)).ok()
        assert review["status"]["allowed"]
        role = {"metadata": {"name": "r"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
        (await jane.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)).ok()  # it allows `escalate`

    api_server.run(scenario, users=(JANE,), options={"authorization": entries(hook() + RBAC)}, webhooks=hooks)
    verbs = [r["spec"]["resourceAttributes"]["verb"] for _, r in hooks.seen]
    assert {"create", "impersonate-on:user-info:get", "impersonate:user-info", "get", "escalate"} <= set(verbs)


def test_masters_are_never_asked_about() -> None:
    hooks = saying(allowed=False, denied=True)

    async def scenario(api: Api) -> None:
        (await api.get(PODS)).ok()

    api_server.run(scenario, options={"authorization": entries(hook())}, webhooks=hooks)
    assert hooks.seen == []


FAULTS = {
    "another kind": "apiVersion: v1\nkind: Secret",
    "none": HEAD.replace("authorizers:\n", "authorizers: []"),
    "a type that is none": HEAD + "- {type: Magic, name: a}",
    "a name twice": HEAD + "- {type: RBAC, name: a}\n- {type: Node, name: a}",
    "a type twice": HEAD + "- {type: RBAC, name: a}\n- {type: RBAC, name: b}",
    "no name": HEAD + "- {type: RBAC}",
    "a webhook of RBAC": HEAD + "- {type: RBAC, name: a, webhook: {}}",
    "no webhook": HEAD + "- {type: Webhook, name: a}",
    "no timeout": HEAD + hook().replace("timeout: 3s", "timeout: ''"),
    "a long timeout": HEAD + hook().replace("3s", "31s"),
    "no policy": HEAD + hook(""),
    "no version": HEAD + hook().replace("subjectAccessReviewVersion: v1\n    m", "m"),
    "no connection": HEAD + hook().replace("KubeConfigFile,", "Magic,"),
    "no expression": HEAD + hook("Deny", "request."),
    "a condition that is a number": HEAD + hook("Deny", "1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_configuration_that_is_wrong_is_refused(fault: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        configuration.parse(FAULTS[fault].encode(), lambda _: Access(URL))
