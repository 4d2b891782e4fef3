"""Events of requests, as a whole server with an audit log tells them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kybern.apiserver.audit.build import AuditOptions
from kybern.apiserver.audit.log_file import LogOptions
from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Api

JANE = User("jane", "7", ("devs",))
CONFIGS = "/api/v1/namespaces/default/configmaps"
HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


def audited(
    scenario: Callable[[Api], Coroutine[Any, Any, Any]],
    tmp_path: Path,
    policy: str = "rules: [{level: RequestResponse, users: [admin, jane, '']}]",
    users: tuple[User, ...] = (JANE,),
    **log: Any,
) -> list[dict[str, Any]]:
    path = tmp_path / "audit.log"
    options = AuditOptions(policy=(HEAD + policy).encode(), log=LogOptions(str(path), **log))
    api_server.run(scenario, users=users, options={"audit": options})
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def stages(events: list[dict[str, Any]]) -> list[str]:
    return [event["stage"] for event in events]


def test_a_write_is_told_with_what_was_sent_and_what_came_of_it(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.create(
            f"{CONFIGS}?fieldManager=x", {"metadata": {"name": "a"}, "data": {"k": "v"}}, user_agent="me/1"
        )

    received, complete = audited(scenario, tmp_path)
    assert list(received) == [
        *("kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user", "sourceIPs", "userAgent"),
        *("objectRef", "requestReceivedTimestamp", "stageTimestamp"),
    ]
    assert received["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert received["user"] == {"username": "admin", "uid": "1", "groups": ["system:masters", "system:authenticated"]}
    assert received["sourceIPs"] == ["127.0.0.1"]
    assert received["requestURI"] == f"{CONFIGS}?fieldManager=x"
    assert complete["auditID"] == received["auditID"]
    assert complete["objectRef"]["name"] == "a"
    assert complete["requestObject"] == {"metadata": {"name": "a"}, "data": {"k": "v"}}
    assert complete["responseObject"]["metadata"]["uid"]
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["annotations"] == {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}


def test_a_refusal_is_told_with_its_status_and_decision(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.as_user(JANE).get(f"{CONFIGS}/a")

    complete = audited(scenario, tmp_path, "rules: [{level: Metadata, users: [jane]}]")[-1]
    assert complete["responseStatus"]["reason"] == "Forbidden"
    assert complete["responseStatus"]["code"] == 403
    assert complete["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert "responseObject" not in complete


def test_who_is_not_known_is_told_without_a_user(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.get("/api/v1/pods", authorization="Bearer nobody")
        assert answer.status == 401

    (event,) = [e for e in audited(scenario, tmp_path, "rules: [{level: Metadata}]") if e["user"] == {}]
    assert event["stage"] == "ResponseStarted"
    assert event["responseStatus"]["code"] == 401


def test_impersonation_is_told_with_both_users(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.get(f"{CONFIGS}/a", impersonate_user="jane", impersonate_group="devs")

    event = audited(scenario, tmp_path)[-1]
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"] == {"username": "jane", "groups": ["devs", "system:authenticated"]}
    assert event["authenticationMetadata"] == {"impersonationConstraint": "impersonate:user-info"}


def test_a_watch_is_told_when_it_starts_and_when_it_ends(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        async with api.watch(f"{CONFIGS}?watch=1"):
            pass

    events = audited(scenario, tmp_path)
    assert stages(events) == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert events[1]["responseStatus"] == {"metadata": {}, "code": 200}


def test_stages_that_are_left_out_are_not_told(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.get("/version")

    policy = "omitStages: [RequestReceived]\nrules: [{level: Metadata, users: [admin]}]"
    assert stages(audited(scenario, tmp_path, policy)) == ["ResponseComplete"]


def test_requests_that_no_rule_picks_are_not_told(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.get("/version")

    assert audited(scenario, tmp_path, "rules: [{level: None, users: [admin]}]") == []


def test_managed_fields_are_left_out_where_the_policy_says_so(tmp_path: Path) -> None:
    managed = [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]

    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, {"metadata": {"name": "a", "managedFields": managed}})
        await api.get(CONFIGS)

    policy = "omitManagedFields: true\nrules: [{level: RequestResponse, users: [admin]}]"
    assert not [e for e in audited(scenario, tmp_path, policy) if "managedFields" in str(e)]


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("application/json", b'{\n  "metadata": {"name": "a"}\n}\n', {"metadata": {"name": "a"}}),
        ("application/yaml", b"metadata:\n  name: a\n", {"metadata": {"name": "a"}}),
        ("application/json", b'{"metadata":\n', None),
        ("application/json", b"[" * 100_000, None),
        ("application/json", b'{"a":"\xff"}', None),
        ("application/json", b'{"a":"\\ud800"}', None),
        ("application/yaml", b"a: &a [*a]", None),
        ("application/vnd.kubernetes.protobuf", b"k8s\x00\xff\xff", None),
        ("text/plain", b"a\nb", None),
    ],
)
def test_every_event_is_one_line_whatever_is_sent(tmp_path: Path, content_type: str, body: bytes, shown: Any) -> None:
    async def scenario(api: Api) -> None:
        agent = 'a"b\\c\u00e9' + "x" * 5000
        await api.request("POST", CONFIGS, body, {"content-type": content_type, "user-agent": agent})

    received, complete = audited(scenario, tmp_path)
    assert complete.get("requestObject") == shown
    assert received["userAgent"].endswith("...TRUNCATED")


def piece(number: int, content: bytes) -> bytes:
    """A field of a protobuf message."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_protobuf_body_is_shown_as_json(tmp_path: Path) -> None:
    meta = piece(1, b"a") + piece(8, b"\x08\x80\xe1\xeb\x17")  # name, creationTimestamp
    body = b"k8s\x00" + piece(1, piece(1, b"v1") + piece(2, b"ConfigMap")) + piece(2, piece(1, meta))

    async def scenario(api: Api) -> None:
        headers = {"content-type": "application/vnd.kubernetes.protobuf"}
        assert (await api.request("POST", CONFIGS, body, headers)).status == 201

    complete = audited(scenario, tmp_path)[-1]
    assert complete["requestObject"]["metadata"] == {"name": "a", "creationTimestamp": "1971-08-02T16:53:20Z"}
    assert complete["objectRef"]["name"] == "a"


def test_addresses_are_those_told_by_proxies_and_last_the_real_one(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        await api.get("/version", x_forwarded_for="192.0.2.1, evil\n, 2001:db8::1", x_real_ip="192.0.2.9")

    assert audited(scenario, tmp_path)[0]["sourceIPs"] == ["192.0.2.1", "2001:db8::1", "192.0.2.9", "127.0.0.1"]


def test_pod_security_adds_what_it_found(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/audit": "restricted"}
        (await api.create("/api/v1/namespaces", {"metadata": {"name": "ps", "labels": labels}})).ok()
        (await api.create("/api/v1/namespaces/ps/serviceaccounts", {"metadata": {"name": "default"}})).ok()
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        (await api.create("/api/v1/namespaces/ps/pods", pod)).ok()

    told = audited(scenario, tmp_path)[-1]["annotations"]
    assert told["pod-security.kubernetes.io/enforce-policy"] == "baseline:latest"
    violations = told["pod-security.kubernetes.io/audit-violations"]
    assert violations.startswith('would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false')


def test_a_log_that_cannot_be_written_stops_only_those_who_want_it(tmp_path: Path) -> None:
    answers = []

    async def scenario(api: Api) -> None:
        answers.append((await api.get("/version")).status)

    for strict in (False, True):
        policy = (HEAD + "rules: [{level: Metadata, users: [admin]}]").encode()
        options = AuditOptions(policy=policy, log=LogOptions("/proc/nowhere/audit.log", strict=strict))
        api_server.run(scenario, options={"audit": options})
    assert answers == [200, 500]
