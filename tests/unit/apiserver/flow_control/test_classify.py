"""What a v1.36 server classified 480 requests as: recorded from its response headers."""

from pathlib import Path
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.flowcontrol_v1 import FlowSchema
from kybern.apiserver import info
from kybern.apiserver.flow_control import bootstrap, classify
from kybern.apiserver.request import LONG_SUBRESOURCES, Request, User
from kybern.wire.http1 import target as targets

RECORDED: dict[str, Any] = msgspec.json.decode((Path(__file__).parent / "recorded.json").read_bytes())
LEVELS = [level.metadata.name for level in (*bootstrap.MANDATORY_LEVELS, *bootstrap.SUGGESTED_LEVELS)]


def schema(name: str, precedence: int, rules: list[Any], level: str = "global-default") -> FlowSchema:
    obj = {
        "metadata": {"name": name},
        "spec": {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": rules},
    }
    return codec.from_json(FlowSchema, obj)[0]


def everything(*extra: FlowSchema) -> list[classify.Schema]:
    return classify.compile_schemas((*bootstrap.MANDATORY_SCHEMAS, *bootstrap.SUGGESTED_SCHEMAS, *extra), LEVELS)


def request(method: str, target: str) -> Request:
    path, query = targets.split_target(target)
    made = Request(method, path, target, query, {})
    made.info = info.parse(made)
    return made


def found(schemas: list[classify.Schema], user: User, method: str, target: str) -> str | None:
    asked = request(method, target)
    return None if asked.info.subresource in LONG_SUBRESOURCES else classify.classify(schemas, user, asked.info).name


def test_requests_are_classified_as_recorded_from_upstream() -> None:
    own = [schema(s["name"], s["precedence"], s["rules"], s["level"]) for s in RECORDED["schemas"]]
    schemas = everything(*own)
    users = [User(name, groups=tuple(groups)) for name, groups in RECORDED["users"]]
    wrong = []
    for method, target, expected in RECORDED["requests"]:
        if method == "OPTIONS":
            continue  # no request for a resource here: nothing but 405 can come of it
        for user, wanted in zip(users, expected, strict=True):
            got = found(schemas, user, method, target)
            if got != wanted:
                wrong.append((user.name, method, target, got, wanted))
    assert not wrong, wrong


def test_a_schema_without_its_level_matches_nothing() -> None:
    dangling = schema("dangling", 2, [rule(["*"])], level="nosuch")
    assert found(everything(dangling), User("joe", groups=("system:authenticated",)), "GET", "/x") == "global-default"


def test_of_equal_precedence_the_first_name_wins() -> None:
    both = everything(schema("b", 50, [rule(["*"])]), schema("a", 50, [rule(["*"])]))
    assert found(both, User("joe"), "GET", "/x") == "a"


def test_a_path_covers_what_is_below_it_and_a_star_only_that() -> None:
    both = everything(schema("paths", 50, [rule(["/flat", "/fly/*", "/fog/"])]))
    told = {
        "/flat": True, "/flat/": True, "/flat/x": True, "/flatter": False, "/fly": False, "/fly/": True,
        "/fly/x": True, "/fog": False, "/fog/": True, "/fog/x": True,
    }  # fmt: skip
    for path, is_covered in told.items():
        assert (found(both, User("joe"), "GET", path) == "paths") == is_covered, path


def test_flows_are_told_apart_by_user_or_namespace() -> None:
    schemas = {s.name: s for s in everything()}
    asked = request("GET", "/api/v1/namespaces/web/pods").info
    assert schemas["global-default"].flow_of(User("joe"), asked) == "joe"
    assert schemas["kube-scheduler"].flow_of(User("joe"), asked) == "web"
    assert schemas["exempt"].flow_of(User("joe"), asked) == ""


def rule(urls: list[str]) -> dict[str, Any]:
    return {
        "subjects": [{"kind": "User", "user": {"name": "*"}}],
        "nonResourceRules": [{"nonResourceURLs": urls, "verbs": ["*"]}],
    }
