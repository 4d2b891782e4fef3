"""Admission webhooks through a whole API server; the webhooks are functions (testing.webhooks.FakeWebhooks)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api
from kybern.testing.webhooks import FakeWebhooks, Hook

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
MUTATING = "MutatingWebhookConfiguration"
VALIDATING = "ValidatingWebhookConfiguration"


def url(name: str) -> str:
    return f"https://hooks.example/{name}"


def webhook(name: str, resources: str = "configmaps", operations: str = "*", **fields: Any) -> dict[str, Any]:
    """One entry of a configuration; its server is `url(name)`."""
    return {
        "name": f"{name}.hooks.example",
        "clientConfig": {"url": url(name)},
        "rules": [
            {
                "apiGroups": ["*"],
                "apiVersions": ["*"],
                "resources": resources.split(","),
                "operations": operations.split(","),
            }
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **fields,
    }


async def configure(api: Api, kind: str, *webhooks: dict[str, Any], name: str = "test") -> Answer:
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }
    answer = await api.create(f"{GROUP}/{kind.lower()}s", configuration)
    answer.ok()
    return answer


def response(review: dict[str, Any], allowed: bool = True, **fields: Any) -> dict[str, Any]:
    """The answer to a review."""
    return {
        "apiVersion": review["apiVersion"],
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": allowed, **fields},
    }


def patched(review: dict[str, Any], *operations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    patch = base64.b64encode(msgspec.json.encode(operations)).decode()
    return response(review, patchType="JSONPatch", patch=patch, **fields)


def adds(path: str, value: Any) -> Hook:
    return lambda review: patched(review, {"op": "add", "path": path, "value": value})


def denies(**status: Any) -> Hook:
    return lambda review: response(review, False, status=status)


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def run(scenario: Callable[[Api, FakeWebhooks], Any], **hooks: Hook) -> Any:
    """What `scenario(api, webhooks)` returns; `hooks` by the name of `webhook`."""
    webhooks = FakeWebhooks({url(name): hook for name, hook in hooks.items()})
    return api_server.run(lambda api: scenario(api, webhooks), webhooks=webhooks)


def one(kind: str, hook: Hook | None, body: Any = None, **fields: Any) -> tuple[Answer, list[dict[str, Any]]]:
    """A config map created past one webhook: the answer, and the requests that the webhook got."""

    async def scenario(api: Api, webhooks: FakeWebhooks) -> tuple[Answer, list[dict[str, Any]]]:
        if hook is not None:
            webhooks.hooks[url("w")] = hook
        await configure(api, kind, webhook("w", **fields))
        answer = await api.create(MAPS, body or config_map(a="b"))
        return answer, [review["request"] for _, review in webhooks.seen]

    return run(scenario)


# -- what a webhook is sent ------------------------------------------------------------------------------------------


def test_a_review_tells_who_writes_what_where() -> None:
    answer, (request,) = one(VALIDATING, response)
    made = answer.ok()
    assert request.pop("uid")
    del made["metadata"]["resourceVersion"]  # it gets one when it is stored
    assert request.pop("object") == made
    assert request == {
        "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
        "name": "one",
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": {"username": "admin", "uid": "1", "groups": ["system:masters", "system:authenticated"]},
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }


def test_a_mutating_webhook_sees_what_the_client_said_and_a_validating_one_what_is_stored() -> None:
    seen = {}
    for kind in (MUTATING, VALIDATING):
        body = {"metadata": {"generateName": "gen-"}}
        _, (request,) = one(kind, response, body)
        seen[kind] = request
    assert "name" not in seen[MUTATING]
    assert "uid" not in seen[MUTATING]["object"]["metadata"]
    assert seen[VALIDATING]["name"].startswith("gen-")
    assert seen[VALIDATING]["object"]["metadata"]["uid"]


def test_updates_and_deletions_show_the_old_object() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("w", operations="UPDATE,DELETE"))
        (await api.create(MAPS, config_map(a="1"))).ok()
        (await api.update(f"{MAPS}/one", config_map(a="2"))).ok()
        (await api.patch(f"{MAPS}/one", {"data": {"a": "3"}})).ok()
        (await api.delete(f"{MAPS}/one?gracePeriodSeconds=0")).ok()
        requests = [review["request"] for _, review in webhooks.seen]
        assert [r["operation"] for r in requests] == ["UPDATE", "UPDATE", "DELETE"]
        assert [(r["object"] or {}).get("data") for r in requests] == [{"a": "2"}, {"a": "3"}, None]
        assert [r["oldObject"]["data"] for r in requests] == [{"a": "1"}, {"a": "2"}, {"a": "3"}]
        assert [r["options"]["kind"] for r in requests] == ["UpdateOptions", "UpdateOptions", "DeleteOptions"]
        assert requests[2]["options"]["gracePeriodSeconds"] == 0
        assert requests[0]["object"]["metadata"]["resourceVersion"]

    run(scenario, w=response)


def test_a_deletion_of_a_collection_asks_for_each_object_without_its_name() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("w", operations="DELETE"))
        for name in ("a", "b"):
            (await api.create(MAPS, config_map(name))).ok()
        assert (await api.delete(MAPS)).status == 418
        requests = [review["request"] for _, review in webhooks.seen]
        assert {r["oldObject"]["metadata"]["name"] for r in requests} <= {"a", "b", "kube-root-ca.crt"}
        assert all("name" not in r for r in requests)
        assert (await api.get(f"{MAPS}/a")).status == 200

    run(scenario, w=denies(code=418))


def test_a_dry_run_says_so() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, MUTATING, webhook("w"))
        made = (await api.create(f"{MAPS}?dryRun=All&fieldManager=me", config_map())).ok()
        assert made["data"] == {"x": "y"}
        request = webhooks.seen[0][1]["request"]
        assert (request["dryRun"], request["options"]["dryRun"]) == (True, ["All"])
        assert request["options"]["fieldManager"] == "me"

    run(scenario, w=adds("/data", {"x": "y"}))


def test_the_older_review_is_sent_where_it_is_asked_for() -> None:
    answer, _ = one(MUTATING, adds("/data/x", "y"), admissionReviewVersions=["v1beta1", "v1"])
    assert answer.ok()["data"] == {"a": "b", "x": "y"}

    async def scenario(api: Api, webhooks: FakeWebhooks) -> str:
        await configure(api, MUTATING, webhook("w", admissionReviewVersions=["v7", "v1beta1"]))
        (await api.create(MAPS, config_map())).ok()
        return str(webhooks.seen[0][1]["apiVersion"])

    assert run(scenario, w=response) == "admission.k8s.io/v1beta1"


# -- what it answers -------------------------------------------------------------------------------------------------

NAME = "w.hooks.example"


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ({}, 400, "denied the request without explanation"),
        ({"message": "no"}, 400, "denied the request: no"),
        ({"reason": "why"}, 400, "denied the request: why"),
        ({"code": 418, "message": "teapot"}, 418, "denied the request: teapot"),
        ({"code": 409}, 409, "denied the request without explanation"),
        ({"code": 0, "message": "m"}, 400, "denied the request: m"),
        ({"code": 200, "message": "m"}, 400, "denied the request: m"),
        ({"code": 302, "message": "m"}, 400, "denied the request: m"),
        ({"code": "x", "message": ["m"]}, 400, "denied the request without explanation"),
        ({"status": "Success", "code": 201, "message": "m"}, 400, "denied the request: m"),
    ],
)
@pytest.mark.thorough
def test_a_denial_says_who_and_why(kind: str, policy: str, status: Any, code: int, said: str) -> None:
    answer, _ = one(kind, denies(**status), failurePolicy=policy)
    assert (answer.status, answer.json["message"]) == (code, f'admission webhook "{NAME}" {said}')
    assert answer.json["status"] == "Failure"


def test_details_of_a_denial_reach_the_client() -> None:
    cause = {"reason": "FieldValueInvalid", "message": "bad", "field": "spec.x"}
    answer, _ = one(VALIDATING, denies(code=422, reason="Invalid", details={"name": "n", "causes": [cause]}))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["details"] == {"name": "n", "causes": [cause]}


def test_warnings_reach_the_client_also_with_a_denial() -> None:
    answer, _ = one(VALIDATING, lambda review: response(review, warnings=["one", "two"]))
    assert answer.warnings == ["one", "two"]
    answer, _ = one(MUTATING, lambda review: response(review, False, warnings=["careful"]))
    assert (answer.status, answer.warnings) == (400, ["careful"])


def test_warnings_that_break_headers_are_left_out_and_long_ones_cut_where_all_are_too_long() -> None:
    texts = ["one", 'two "q" \\ back', "line\nbreak", "x" * 300, "", "tab\there", "\x1b[31m"]
    answer, _ = one(VALIDATING, lambda review: response(review, warnings=texts))
    assert answer.warnings == ["one", 'two \\"q\\" \\\\ back', "x" * 300]
    answer, _ = one(VALIDATING, lambda review: response(review, warnings=[f"{i:03}" + "y" * 300 for i in range(60)]))
    assert [len(text) for text in answer.warnings] == [256] * 16


def raw(review: dict[str, Any], **over: Any) -> dict[str, Any]:
    return {**response(review), **over}


FAILURES: list[tuple[str, Hook, str]] = [
    ("bad JSON", lambda _: b"{nope", "failed to call webhook: couldn't get version/kind; json parse error: "),
    ("nothing", lambda _: b"", "failed to call webhook: 0-length response with status code: 200 and content type: "),
    ("null", lambda _: b"null", "received invalid webhook response: webhook response was absent"),
    ("a list", lambda _: b"[]", "failed to call webhook: couldn't get version/kind; json parse error: "),
    ("a JSON bomb", lambda _: b"[" * 100_000, "failed to call webhook: couldn't get version/kind"),
    ("no UTF-8", lambda _: b'{"kind":"\xff"}', "failed to call webhook: couldn't get version/kind"),
    ("no response", lambda r: raw(r, response=None), "received invalid webhook response: webhook response was absent"),
    ("a text for response", lambda r: raw(r, response="yes"), "failed to call webhook: json: cannot unmarshal string"),
    ("another uid", lambda r: response(r, uid="x"), "received invalid webhook response: expected response.uid="),
    ("no uid", lambda r: response(r, uid=""), "received invalid webhook response: expected response.uid="),
    ("another kind", lambda r: raw(r, kind="Pod"), 'failed to call webhook: no kind "Pod" is registered for version'),
    (
        "another version",
        lambda r: raw(r, apiVersion="admission.k8s.io/v2"),
        'failed to call webhook: no kind "AdmissionReview" is registered for version "admission.k8s.io/v2"',
    ),
    (
        "the older version",
        lambda r: raw(r, apiVersion="admission.k8s.io/v1beta1"),
        "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
    ),
    (
        "no kind",
        lambda r: raw(r, kind=""),
        (
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, "
            "Kind=AdmissionReview, got admission.k8s.io/v1, Kind="
        ),
    ),
    (
        "a text for allowed",
        lambda r: response(r, "true"),  # type: ignore[arg-type]
        (
            "failed to call webhook: json: cannot unmarshal string into Go struct field "
            "AdmissionResponse.response.allowed of type bool"
        ),
    ),
    ("a number for a warning", lambda r: response(r, warnings=[5]), "failed to call webhook: json: cannot unmarshal"),
    ("404", lambda _: (404, b""), "failed to call webhook: the server could not find the requested resource"),
    (
        "500",
        lambda _: (500, b"oops"),
        'failed to call webhook: an error on the server ("oops") has prevented the request from succeeding',
    ),
    (
        "a redirect",
        lambda _: (307, b""),
        "failed to call webhook: the server responded with the status code 307 but did not return more information",
    ),
]


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize(("hook", "said"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES])
@pytest.mark.thorough
def test_an_answer_that_counts_for_nothing_is_a_failure_of_the_webhook(kind: str, hook: Hook, said: str) -> None:
    answer, _ = one(kind, hook)
    message = f'failed calling webhook "{NAME}": {said}'
    assert answer.status == 500
    assert answer.json["message"].startswith(f"Internal error occurred: {message}")
    assert answer.json["details"]["causes"][0]["message"].startswith(message)
    ignored, _ = one(kind, hook, failurePolicy="Ignore")
    assert ignored.status == 201


def test_a_webhook_that_cannot_be_reached_is_told_as_upstream_does() -> None:
    answer, _ = one(VALIDATING, None, timeoutSeconds=7)
    assert answer.json["message"] == (
        f'Internal error occurred: failed calling webhook "{NAME}": failed to call webhook: '
        'Post "https://hooks.example/w?timeout=7s": dial tcp hooks.example:443: connect: connection refused'
    )


def test_a_slow_webhook_is_cut_at_its_timeout() -> None:
    async def slow(review: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(5)
        return response(review)

    answer, _ = one(VALIDATING, slow, timeoutSeconds=1)
    assert answer.json["message"].endswith('Post "https://hooks.example/w?timeout=1s": context deadline exceeded')
    assert one(VALIDATING, slow, timeoutSeconds=1, failurePolicy="Ignore")[0].status == 201
    assert one(VALIDATING, slow, timeoutSeconds=10)[0].status == 201


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# (what, the response, what a mutating webhook's failure says, what a validating one's)
PATCHES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "without a type",
        {"patch": b64(b"[]")},
        "webhook returned response.patch but not response.patchType",
        "validating webhook may not return response.patch",
    ),
    (
        "type alone",
        {"patchType": "JSONPatch"},
        "webhook returned response.patchType but not response.patch",
        "validating webhook may not return response.patchType",
    ),
    (
        "no list",
        {"patchType": "JSONPatch", "patch": b64(b"{}")},
        "received undecodable patch in webhook response: json: cannot unmarshal object",
        "validating webhook may not return response.patch",
    ),
    (
        "no JSON",
        {"patchType": "JSONPatch", "patch": b64(b"{nope")},
        "received undecodable patch in webhook response: ",
        "validating webhook may not return response.patch",
    ),
    ("no base64", {"patchType": "JSONPatch", "patch": "!!!"}, "illegal base64 data", "illegal base64 data"),
    ("a number", {"patchType": "JSONPatch", "patch": 7}, "cannot unmarshal number", "cannot unmarshal number"),
]


@pytest.mark.parametrize(("fields", "mutating", "validating"), [p[1:] for p in PATCHES], ids=[p[0] for p in PATCHES])
def test_a_malformed_patch_is_a_failure_of_the_webhook(fields: Any, mutating: str, validating: str) -> None:
    for kind, said in ((MUTATING, mutating), (VALIDATING, validating)):
        answer, _ = one(kind, lambda review: response(review, **fields))
        assert (answer.status, said in answer.json["message"]) == (500, True), answer.json["message"]
        assert one(kind, lambda review: response(review, **fields), failurePolicy="Ignore")[0].status == 201


@pytest.mark.parametrize(
    ("operation", "code", "said"),
    [
        (
            {"op": "remove", "path": "/data/no"},
            500,
            "error in remove for path: '/data/no': Unable to remove nonexistent",
        ),
        ({"op": "test", "path": "/data/a", "value": "z"}, 500, "testing value /data/a failed: test failed"),
        ({"op": "frobnicate", "path": "/data/a"}, 500, "Internal error occurred: Unexpected kind: frobnicate"),
        ({"op": "replace", "path": "/data", "value": 5}, 500, "Internal error occurred: "),
        ({"op": "add", "path": "/metadata/labels", "value": {"a": 5}}, 500, "Internal error occurred: "),
        ({"op": "replace", "path": "/kind", "value": "Secret"}, 500, 'no kind "Secret" is registered'),
        (
            {"op": "replace", "path": "/apiVersion", "value": "v2"},
            500,
            'no kind "ConfigMap" is registered for version "v2"',
        ),
        ({"op": "replace", "path": "", "value": [1]}, 500, "Internal error occurred: "),
        (
            {"op": "replace", "path": "", "value": {"a": 1}},
            422,
            'ConfigMap "" is invalid: metadata.name: Required value',
        ),
        ({"op": "add", "path": "/metadata/labels", "value": {"a b": "c"}}, 422, 'ConfigMap "one" is invalid: metadata'),
        (
            {"op": "add", "path": "/metadata/namespace", "value": "kube-system"},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ],
)
def test_a_patch_that_breaks_the_object_fails_the_request_whatever_the_policy(
    operation: dict[str, Any], code: int, said: str
) -> None:
    answer, _ = one(MUTATING, lambda review: patched(review, operation), failurePolicy="Ignore")
    assert (answer.status, said in answer.json["message"]) == (code, True), answer.json["message"]


@pytest.mark.parametrize(
    ("path", "value"),
    [("/metadata/uid", "11111111-1111-1111-1111-111111111111"), ("/metadata/resourceVersion", "7"), ("/nosuch", {})],
)
def test_a_patch_cannot_set_what_is_the_servers(path: str, value: Any) -> None:
    answer, _ = one(MUTATING, adds(path, value))
    made = answer.ok()
    assert made["metadata"]["uid"] != value
    assert "nosuch" not in made


# -- order, rounds ---------------------------------------------------------------------------------------------------


def test_mutating_webhooks_see_what_those_before_them_made_in_order_of_name() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, MUTATING, webhook("second"), name="b")
        await configure(api, MUTATING, webhook("first"), webhook("also"), name="a")
        made = (await api.create(MAPS, config_map(a="b"))).ok()
        assert made["data"] == {"a": "b", "one": "1", "two": "2", "three": "3"}
        seen = [(u.rpartition("/")[2], sorted(r["request"]["object"]["data"])) for u, r in webhooks.seen]
        assert seen == [("first", ["a"]), ("also", ["a", "one"]), ("second", ["a", "one", "two"])]

    run(scenario, first=adds("/data/one", "1"), also=adds("/data/two", "2"), second=adds("/data/three", "3"))


def test_a_webhook_is_asked_again_when_a_later_one_changed_the_object() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(
            api,
            MUTATING,
            webhook("a", reinvocationPolicy="IfNeeded"),
            webhook("b"),
            webhook("c", reinvocationPolicy="IfNeeded"),
        )
        (await api.create(MAPS, config_map(a="b"))).ok()
        assert [u.rpartition("/")[2] for u, _ in webhooks.seen] == ["a", "b", "c", "a"]

    run(scenario, a=response, b=adds("/data/x", "y"), c=response)


def test_nobody_is_asked_again_when_nothing_changed() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, MUTATING, webhook("a", reinvocationPolicy="IfNeeded"), webhook("b"))
        (await api.create(MAPS, config_map(x="y"))).ok()
        assert len(webhooks.seen) == 2

    run(scenario, a=response, b=adds("/data/x", "y"))


def test_two_that_undo_each_other_are_asked_a_bounded_number_of_times() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        both = [webhook(name, reinvocationPolicy="IfNeeded") for name in ("a", "b")]
        await configure(api, MUTATING, *both)
        assert (await api.create(MAPS, config_map(x="0"))).ok()["data"] == {"x": "b"}
        assert len(webhooks.seen) == 4

    run(scenario, a=adds("/data/x", "a"), b=adds("/data/x", "b"))


def test_what_a_webhook_adds_gets_its_defaults() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, MUTATING, webhook("w", "pods"))
        container = {"name": "c", "image": "i"}
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "automountServiceAccountToken": False}}
        await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        made = (await api.create("/api/v1/namespaces/default/pods", pod)).ok()
        (added,) = made["spec"]["initContainers"]
        assert added["terminationMessagePolicy"] == "File"
        assert made["status"]["phase"] == "Pending"

    def sidecar(review: dict[str, Any]) -> dict[str, Any]:
        added = [{"name": "added", "image": "i"}]
        status = {"op": "add", "path": "/status", "value": {"phase": "Running"}}
        return patched(review, {"op": "add", "path": "/spec/initContainers", "value": added}, status)

    run(scenario, w=sidecar)


def test_built_in_plugins_look_again_at_what_a_webhook_made() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, MUTATING, webhook("w", "pods"))
        await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        limits = {"limits": [{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}]}
        await api.create("/api/v1/namespaces/default/limitranges", {"metadata": {"name": "l"}, "spec": limits})
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        made = (await api.create("/api/v1/namespaces/default/pods", pod)).ok()
        assert made["spec"]["containers"][1]["resources"] == {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}

    run(scenario, w=adds("/spec/containers/-", {"name": "sidecar", "image": "i"}))


def test_a_mutated_update_raises_the_generation() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        target = "/apis/apps/v1/namespaces/default/deployments"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        made = (await api.create(target, {"metadata": {"name": "d"}, "spec": spec})).ok()
        await configure(api, MUTATING, webhook("w", "deployments"))
        updated = (await api.update(f"{target}/d", made)).ok()
        assert (updated["spec"]["replicas"], updated["metadata"]["generation"]) == (3, 2)

    run(scenario, w=lambda review: patched(review, {"op": "replace", "path": "/spec/replicas", "value": 3}))


def test_validating_webhooks_are_asked_at_once_and_the_first_refusal_is_told() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("slow"), webhook("quick"))
        answer = await api.create(MAPS, config_map())
        assert answer.json["message"].endswith("denied the request: slow")
        assert [u.rpartition("/")[2] for u, _ in webhooks.seen] == ["slow", "quick"]

    async def slow(review: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(1)
        return response(review, False, status={"message": "slow"})

    run(scenario, slow=slow, quick=denies(message="quick"))


# -- which writes ----------------------------------------------------------------------------------------------------


def test_the_configurations_themselves_are_exempt() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        for kind in (MUTATING, VALIDATING):
            await configure(api, kind, webhook("w", "*/*"), name="a")
        for kind in (MUTATING, VALIDATING):
            await configure(api, kind, webhook("x", "pods"), name="b")
            assert (await api.delete(f"{GROUP}/{kind.lower()}s/b")).status == 200
            assert (await api.delete(f"{GROUP}/{kind.lower()}s/a")).status == 200
        assert webhooks.seen == []

    run(scenario, w=denies())


def test_a_change_of_the_configuration_is_in_force_for_the_next_write() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("w", operations="CREATE"))
        assert (await api.create(MAPS, config_map())).status == 400
        target = f"{GROUP}/validatingwebhookconfigurations/test"
        operations = {"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["UPDATE"]}
        (await api.patch(target, [operations], "json")).ok()
        assert (await api.create(MAPS, config_map())).status == 201
        assert (await api.update(f"{MAPS}/one", config_map(a="b"))).status == 400
        await api.delete(target)
        assert (await api.update(f"{MAPS}/one", config_map(a="b"))).status == 200

    run(scenario, w=denies())


def test_selectors_choose() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        prod = {"matchLabels": {"env": "prod"}}
        await configure(api, VALIDATING, webhook("w", objectSelector=prod), webhook("v", namespaceSelector=prod))
        assert (await api.create(MAPS, config_map("plain"))).status == 201
        labelled = {"metadata": {"name": "labelled", "labels": {"env": "prod"}}}
        assert (await api.create(MAPS, labelled)).json["message"].startswith('admission webhook "w.')
        await api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"env": "prod"}}})
        assert (await api.create(MAPS, config_map("next"))).json["message"].startswith('admission webhook "v.')

    run(scenario, w=denies(), v=denies())


def test_match_conditions_choose() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        condition = {"name": "not-skipped", "expression": "!('skip' in object.data)"}
        await configure(api, VALIDATING, webhook("w", matchConditions=[condition]))
        assert (await api.create(MAPS, config_map(skip="x"))).status == 201
        assert (await api.create(MAPS, config_map("two", a="b"))).status == 400
        # Without data the expression fails: what nobody can tell is refused, by failurePolicy.
        unknown = await api.create(MAPS, {"metadata": {"name": "three"}})
        said = "expression '!('skip' in object.data)' resulted in error: no such key: data"
        assert (unknown.status, unknown.json["message"]) == (403, f'configmaps "three" is forbidden: {said}')
        assert len(webhooks.seen) == 1

    run(scenario, w=denies())


def test_a_write_in_another_version_is_shown_in_the_version_that_is_asked_for() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        rule = {
            "apiGroups": ["autoscaling"],
            "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"],
            "operations": ["CREATE"],
        }
        await configure(api, MUTATING, webhook("w", rules=[rule]))
        target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
        spec = {"scaleTargetRef": target, "maxReplicas": 3}
        where = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        made = (await api.create(where, {"metadata": {"name": "h"}, "spec": spec})).ok()
        (request,) = [review["request"] for _, review in webhooks.seen]
        assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
        assert request["object"]["apiVersion"] == "autoscaling/v1"
        assert made["apiVersion"] == "autoscaling/v2"
        (metric,) = made["spec"]["metrics"]
        assert metric["resource"]["target"]["averageUtilization"] == 42

    run(scenario, w=adds("/spec/targetCPUUtilizationPercentage", 42))


def test_an_exact_match_is_not_asked_about_other_versions() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        rule = {
            "apiGroups": ["autoscaling"],
            "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"],
            "operations": ["CREATE"],
        }
        await configure(api, VALIDATING, webhook("w", rules=[rule], matchPolicy="Exact"))
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3}
        for version, status in (("v2", 201), ("v1", 400)):
            where = f"/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers"
            answer = await api.create(where, {"metadata": {"name": f"h{version}"}, "spec": spec})
            assert answer.status == status

    run(scenario, w=denies())


def converts(review: dict[str, Any]) -> dict[str, Any]:
    """A conversion webhook: v1 calls `color` what v2 calls `colour`."""
    request = review["request"]
    done = []
    for obj in request["objects"]:
        spec = dict(obj["spec"])
        old, new = ("colour", "color") if request["desiredAPIVersion"].endswith("v1") else ("color", "colour")
        if old in spec:
            spec[new] = spec.pop(old)
        done.append({**obj, "apiVersion": request["desiredAPIVersion"], "spec": spec})
    answer = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": done}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": answer}


@pytest.mark.parametrize("by_webhook", [False, True])
def test_a_custom_object_is_shown_in_the_version_that_is_asked_for(by_webhook: bool) -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        versions = [{"name": n, "served": True, "storage": n == "v1", "schema": schema} for n in ("v1", "v2")]
        names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions},
        }
        if by_webhook:
            conversion = {"clientConfig": {"url": url("conversion")}, "conversionReviewVersions": ["v1"]}
            definition["spec"]["conversion"] = {"strategy": "Webhook", "webhook": conversion}  # type: ignore[index]
        (await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)).ok()
        where = "/apis/example.com/%s/namespaces/default/widgets"
        for _ in range(200):
            if (await api.get(where % "v2")).status == 200:
                break
            await asyncio.sleep(0.1)
        rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"], "operations": ["CREATE"]}
        await configure(api, MUTATING, webhook("w", rules=[rule]))
        widget = {"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
        made = (await api.create(where % "v2", widget)).ok()
        word = "colour" if by_webhook else "color"
        assert (made["apiVersion"], made["spec"]) == ("example.com/v2", {"size": 1, word: "red"})
        (request,) = [review["request"] for to, review in webhooks.seen if to == url("w")]
        assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
        assert (request["object"]["apiVersion"], request["object"]["spec"]) == ("example.com/v1", {"size": 1})

    run(scenario, w=adds("/spec/color", "red"), conversion=converts)


# -- subresources ----------------------------------------------------------------------------------------------------


def kinds_seen(webhooks: FakeWebhooks) -> list[tuple[str, str, str]]:
    requests = [review["request"] for _, review in webhooks.seen]
    return [(r["operation"], r["kind"]["kind"], r.get("subResource", "")) for r in requests]


async def a_pod(api: Api) -> None:
    await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    (await api.create("/api/v1/namespaces/default/pods", pod)).ok()


def test_bindings_evictions_and_status_are_asked_about_as_what_they_are() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await a_pod(api)
        await configure(api, VALIDATING, webhook("w", "*/*"))
        pod = "/api/v1/namespaces/default/pods/p"
        (await api.create(f"{pod}/binding", {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}})).ok()
        (await api.patch(f"{pod}/status", {"status": {"phase": "Running"}})).ok()
        (
            await api.create(
                f"{pod}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
            )
        ).ok()
        assert kinds_seen(webhooks) == [
            ("CREATE", "Binding", "binding"),
            ("UPDATE", "Pod", "status"),
            ("CREATE", "Eviction", "eviction"),
        ]

    run(scenario, w=response)


@pytest.mark.parametrize(
    ("subresource", "body"),
    [
        ("binding", {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        ("eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}),
    ],
)
def test_a_binding_or_eviction_that_is_refused_does_nothing(subresource: str, body: Any) -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await a_pod(api)
        await configure(api, VALIDATING, webhook("w", f"pods/{subresource}"))
        pod = "/api/v1/namespaces/default/pods/p"
        before = (await api.get(pod)).ok()
        assert (await api.create(f"{pod}/{subresource}", body)).status == 400
        assert (await api.get(pod)).ok() == before

    run(scenario, w=denies())


@pytest.mark.parametrize(
    ("method", "subresource", "kind"),
    [
        ("POST", "exec", "PodExecOptions"),
        ("GET", "attach", "PodAttachOptions"),
        ("POST", "portforward", "PodPortForwardOptions"),
    ],
)
def test_connections_are_asked_about_before_they_are_made(method: str, subresource: str, kind: str) -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await a_pod(api)
        await configure(api, VALIDATING, webhook("w", f"pods/{subresource}", "CONNECT"))
        target = f"/api/v1/namespaces/default/pods/p/{subresource}?container=c&stdout=true"
        answer = await api.request(method, target)
        assert (answer.status, answer.json["message"][-2:]) == (400, "no")
        (request,) = [review["request"] for _, review in webhooks.seen]
        assert request["kind"] == {"group": "", "version": "v1", "kind": kind}
        assert (request["operation"], request["name"], request["options"]) == ("CONNECT", "p", None)

    run(scenario, w=denies(message="no"))


def test_a_scale_is_asked_about_as_a_scale_and_may_be_changed() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        target = "/apis/apps/v1/namespaces/default/deployments"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        (await api.create(target, {"metadata": {"name": "d"}, "spec": spec})).ok()
        await configure(api, MUTATING, webhook("w", "deployments/scale"))
        await configure(api, VALIDATING, webhook("v", "*/*"))
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 2}}
        assert (await api.update(f"{target}/d/scale", scale)).ok()["spec"]["replicas"] == 7
        patched = await api.patch(f"{target}/d/scale", {"spec": {"replicas": 3}})
        assert patched.ok()["spec"]["replicas"] == 7
        assert kinds_seen(webhooks) == [("UPDATE", "Scale", "scale")] * 4
        first, second, *_ = [review["request"] for _, review in webhooks.seen]
        assert [r["object"]["spec"]["replicas"] for r in (first, second)] == [2, 7]
        assert first["oldObject"]["spec"]["replicas"] == 1
        assert (await api.get(f"{target}/d")).ok()["metadata"]["generation"] == 2

    run(scenario, w=lambda review: patched(review, {"op": "replace", "path": "/spec/replicas", "value": 7}), v=response)


def test_reviews_are_asked_about() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("w", "selfsubjectaccessreviews"))
        where = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        assert (await api.create(where, review)).status == 400

    run(scenario, w=denies())


def test_calls_are_counted_under_upstreams_names() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        await configure(api, VALIDATING, webhook("no"), webhook("gone"), webhook("open", failurePolicy="Ignore"))
        await configure(api, MUTATING, webhook("yes"))
        await api.create(MAPS, config_map())
        text = (await api.get("/metrics")).body.decode()
        prefix = "apiserver_admission_webhook_"
        told = {line.removeprefix(prefix) for line in text.split("\n") if line.startswith(prefix)}
        yes, no, gone = (f'name="{name}.hooks.example",operation="CREATE"' for name in ("yes", "no", "gone"))
        assert {
            f'admission_duration_seconds_count{{{yes},rejected="false",type="admit"}} 1',
            'fail_open_count{name="open.hooks.example",type="validating"} 1',
            f'rejection_count{{error_type="no_error",{no},rejection_code="418",type="validating"}} 1',
            f'rejection_count{{error_type="calling_webhook_error",{gone},rejection_code="0",type="validating"}} 1',
        } <= told

    run(scenario, no=denies(code=418), yes=response)


def test_without_configurations_nothing_waits_for_webhooks() -> None:
    async def scenario(api: Api, webhooks: FakeWebhooks) -> None:
        (await api.create(MAPS, config_map())).ok()
        for plugin in api.server.gate.chain.plugins:
            if plugin.name.endswith("AdmissionWebhook"):
                assert plugin._configurations.hooks == ()  # type: ignore[attr-defined]

    run(scenario)
