"""Requests made of a seed and a number: valid ones, with something broken in the path, the object or the bytes."""

from __future__ import annotations

import functools
import json
import random
import urllib.parse
from dataclasses import dataclass
from typing import Any

import yaml

from kybern.machinery import scheme
from tools.corpus import seeds
from tools.fuzz import values

_TOKENS = (*["admin"] * 24, "jane", "node", "robot", "nobody", "")
_PATCHES = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)
_PATHS = (
    *("/", "/api", "/apis", "/version", "/healthz", "/livez?verbose", "/readyz/ping", "/metrics", "/openapi/v2"),
    *(
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/.well-known/openid-configuration",
        "/openid/v1/jwks",
        "/apis/apps",
        "/nope",
    ),
    *("/debug/api_priority_and_fairness/dump_queues", "/debug/pprof/", "/logs/", "/api/v1", "/apis/apps/v1"),
)
_QUERIES = (
    *("limit=1", "limit=0", "limit=-1", "limit=x", "continue=e30", "resourceVersion=0", "resourceVersion=1&limit=2"),
    *("resourceVersion=99999999999&timeoutSeconds=1", "resourceVersionMatch=Exact&resourceVersion=1", "dryRun=All"),
    *("fieldSelector=metadata.name%3Da", "labelSelector=a%20in%20(b,c)", "labelSelector=!a,b!=c", "pretty=true"),
    *("fieldManager=x", "force=true", "fieldManager=" + "x" * 200, "fieldValidation=Strict", "fieldValidation=No"),
    *("watch=1&timeoutSeconds=1", "watch=true&sendInitialEvents=true&allowWatchBookmarks=true", "orphanDependents=x"),
    *(
        "propagationPolicy=Foreground",
        "gracePeriodSeconds=0",
        "gracePeriodSeconds=-1",
        "a=b&a=c",
        "%00=%ff",
        "=&&=",
        "?",
    ),
)
_ACCEPTS = (
    *("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "text/html", ""),
    *("application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
    *(
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "application/json;as=Nope;v=v9;g=x",
        "a/b;q=x",
    ),
    *(
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;q=0",
        ",,,",
        "text/plain",
    ),
)
_HEADERS = (
    *(
        "Impersonate-User: jane",
        "Impersonate-Group: system:masters",
        "Impersonate-User: system:node:n1",
        "Impersonate-Uid: 1",
    ),
    *("X-Remote-User: admin", "X-Remote-Group: system:masters", "X-Forwarded-For: 1.2.3.4", "Expect: 100-continue"),
    *(
        "Connection: close",
        "Connection: upgrade",
        "Upgrade: websocket",
        "Upgrade: SPDY/3.1",
        "Transfer-Encoding: chunked",
    ),
    *(
        "Accept-Encoding: gzip",
        "Content-Encoding: gzip",
        "Audit-Id: x",
        "If-None-Match: *",
        "Range: bytes=0-1",
        "X: " + "y" * 9000,
    ),
    *(
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: v5.channel.k8s.io",
    ),
)
_BYTES = (
    *(
        b"\x00",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"%",
        b"\xff\xfe",
        b"\r\n\r\n",
        b"HTTP/1.1",
        b"GET / HTTP/1.1\r\n\r\n",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"\x16\x03\x01",
        b"PRI * ",
    ),
    *(
        b'{"a":',
        b"[" * 2000,
        b'"\\ud800"',
        b"1e999",
        b"null",
        b"!!python/object",
        b"&a [*a]",
        b"k8s\x00",
        b"\x0a\xff\xff\xff\x0f",
    ),
)


@dataclass(frozen=True)
class Case:
    """Bytes to send; `is_whole`: the server can tell where they end."""

    data: bytes
    is_whole: bool


@functools.cache
def _objects() -> tuple[dict[str, Any], ...]:
    return tuple(seeds.load())


def make(seed: int, number: int) -> Case:
    dice = random.Random(f"{seed}:{number}")
    method, target, headers, body = _request(dice)
    kind = dice.randrange(10)
    if kind == 0:
        target = _break_target(target, dice)
    if dice.randrange(6) == 0:
        headers.append(dice.choice(_HEADERS))
    if kind == 1 and body:
        body = _break_bytes(body, dice)
    data = _render(method, target, headers, body, dice)
    if kind == 2:
        return Case(_break_bytes(data, dice), is_whole=False)
    return Case(data, is_whole=not any(h.startswith(("Transfer", "Expect", "Upgrade")) for h in headers))


def _request(dice: random.Random) -> tuple[str, str, list[str], bytes]:
    headers = [f"Accept: {dice.choice(_ACCEPTS)}"] if dice.randrange(3) == 0 else []
    if dice.randrange(12) == 0:
        return dice.choice(("GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW")), dice.choice(_PATHS), headers, b""
    resource = dice.choice(scheme.RESOURCES)
    examples = [o for o in _objects() if (o.get("apiVersion"), o.get("kind")) == (resource.api_version, resource.kind)]
    obj = dice.choice(examples) if examples else {"metadata": {"name": "a"}, "spec": {}}
    name = dice.choice((obj.get("metadata", {}).get("name") or "a", *values.NAMES))
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    namespaced = (
        f"/namespaces/{dice.choice(('default', 'default', 'kube-system', 'nope'))}" if resource.namespaced else ""
    )
    collection = f"{base}{namespaced}/{resource.plural}"
    one = f"{collection}/{urllib.parse.quote(str(name), safe='')}"
    if resource.subresources and dice.randrange(4) == 0:
        one += "/" + dice.choice(resource.subresources).name
        if dice.randrange(3) == 0:
            one += "/" + dice.choice(("", "a", "..", "a%2Fb", "x" * 300))
    method, path = dice.choice(
        (
            *(("GET", one), ("GET", collection), ("PUT", one), ("PATCH", one), ("PATCH", one), ("POST", one)),
            *(
                ("POST", collection),
                ("POST", collection),
                ("POST", collection),
                ("DELETE", one),
                ("DELETE", collection),
            ),
        )
    )
    if method == "DELETE" and path == collection and dice.randrange(20):
        method = "GET"  # rarely: it empties what other requests find
    if dice.randrange(4) == 0:
        path += "?" + "&".join(dice.sample(_QUERIES, dice.choice((1, 1, 2))))
    if method in ("GET", "HEAD"):
        return method, path, headers, b""
    return method, path, *_body(method, obj, headers, dice)


def _body(method: str, obj: dict[str, Any], headers: list[str], dice: random.Random) -> tuple[list[str], bytes]:
    value: Any = {**obj, "metadata": {**obj.get("metadata", {}), "name": dice.choice((*values.NAMES, "b"))}}
    media = "application/json"
    if method == "PATCH":
        media = dice.choice(_PATCHES)
        value = _json_patch(value, dice) if media.startswith("application/json-patch") else value
        headers.append("X-Kept: 1")
    elif method == "DELETE":
        value = dice.choice(({}, {"propagationPolicy": "Orphan"}, {"preconditions": {"uid": "x"}}, value))
    broken = values.break_value(value, dice, dice.choice((0, 1, 1, 2, 3, 8)))
    if method != "PATCH" and dice.randrange(10) == 0:
        headers.append("Content-Type: application/yaml")
        return headers, yaml.safe_dump(broken, allow_unicode=bool(dice.randrange(2))).encode()
    headers.append(f"Content-Type: {media}")
    return headers, json.dumps(broken, ensure_ascii=bool(dice.randrange(2))).encode("utf-8", "surrogatepass")


def _json_patch(value: Any, dice: random.Random) -> list[Any]:
    pointers = (
        "/metadata/labels/a",
        "/spec",
        "/metadata",
        "",
        "/",
        "/spec/-",
        "/metadata/name",
        "/a~1b~0c",
        "/~2",
        "/spec/0/0",
    )
    return [
        {
            "op": dice.choice(("add", "remove", "replace", "move", "copy", "test", "nope")),
            "path": dice.choice(pointers),
            "from": dice.choice(pointers),
            "value": dice.choice((value, values.any_value(dice))),
        }
        for _ in range(dice.choice((0, 1, 2, 5)))
    ]


def _break_target(target: str, dice: random.Random) -> str:
    at = dice.randrange(len(target) + 1)
    extra = dice.choice(
        ("%2F", "%00", "//", "/../", "/./", "%ff", "%", "?", "#", ";", "é", "%2e%2e", "/watch/", "&limit=", "x" * 5000)
    )
    return target[:at] + extra + target[at + dice.choice((0, 0, 1, 5)) :]


def _render(method: str, target: str, headers: list[str], body: bytes, dice: random.Random) -> bytes:
    token = dice.choice(_TOKENS)
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    head = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n"
    if any(h.startswith("Transfer") for h in headers):
        return head + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body) or 1, body or b"x")
    if body:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + b"\r\n" + body


def _break_bytes(data: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + dice.choice(_BYTES) + data[at:]
            case 2:
                data = data[:at] + data[at + dice.randrange(1, 40) :]
            case 3:
                data = data[:at]
            case 4:
                end = min(len(data), at + dice.randrange(1, 200))
                data = data[:end] + data[at:end] + data[end:]
            case _ if at < len(data):
                data = data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
    return data
