"""Bombs and poison in bodies: JSON, YAML, strings and quantities. Each is answered soon, and with the right code."""

from __future__ import annotations

import json

import pytest

from kybern.machinery import manifest
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

pytestmark = pytest.mark.thorough

CONFIGS = "/api/v1/namespaces/default/configmaps"
MANY = 3 * 1024 * 1024 - 100  # as large as a body may be
SECONDS = 5.0  # of processor time, on however slow a machine: idle, all of these take less than half a second

YAML: dict[str, bytes] = {
    "open brackets": b"[" * MANY,
    "open braces": b"{a: " * (MANY // 4),
    "nested dashes": b"- " * (MANY // 2),
    "nested questions": b"? " * (MANY // 2),
    "a long list": b"a: [" + b"x," * (MANY // 2 - 4) + b"]",
    "many keys": b"\n".join(b"k%d: v" % n for n in range(230_000)),
    "many anchors": b"\n".join(b"k%d: &a%d v" % (n, n) for n in range(150_000)),
    "many documents": b"---\n" * (MANY // 4),
    "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(2_000)),
    "an alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"\n".join(b"%c: &%c [%b]" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 122)),
    "a merge bomb": b"a: &a {x: 1}\n"
    + b"\n".join(b"%c: &%c {<<: [%b]}" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 122)),
}
JSON: dict[str, bytes] = {
    "open brackets": b"[" * MANY,
    "open braces": b'{"a":' * (MANY // 5),
    "closed brackets": b"[" * (MANY // 2) + b"]" * (MANY // 2),
    "a long list": b'{"metadata":{"name":"a"},"x":[' + b"1," * (MANY // 2 - 40) + b"1]}",
    "many unknown keys": b"{" + b",".join(b'"k%d":1' % n for n in range(200_000)) + b"}",
    "one key many times": b"{" + b",".join([b'"a":1'] * 400_000) + b"}",
    "a long number": b'{"metadata":{"generation":' + b"9" * (MANY - 40) + b"}}",
    "a long exponent": b'{"metadata":{"generation":1e' + b"9" * 1_000_000 + b"}}",
    "a long text": b'{"metadata":{"name":"' + b"a" * (MANY - 40) + b'"}}',
    "escapes": b'{"metadata":{"name":"' + b"\\u0061" * (MANY // 6 - 20) + b'"}}',
}


def send(body: bytes, media: str, target: str = CONFIGS, method: str = "POST") -> Answer:
    async def scenario(api: Api) -> Answer:
        return await api.request(method, target, body, {"content-type": media})

    return api_server.run(scenario)


@pytest.mark.parametrize("name", YAML)
def test_a_yaml_bomb_is_refused_soon(name: str) -> None:
    answer = send(YAML[name], "application/yaml")
    assert answer.status == 400
    assert answer.seconds < SECONDS
    assert len(answer.body) < 5_000


@pytest.mark.parametrize("name", JSON)
def test_a_json_bomb_is_answered_soon(name: str) -> None:
    answer = send(JSON[name], "application/json")
    # What is only long, in a field that nobody knows, is told and left out.
    assert answer.status in ((201,) if name == "a long list" else (400, 422)), answer.body[:200]
    assert answer.seconds < SECONDS


@pytest.mark.parametrize("media", ["application/apply-patch+yaml", "application/merge-patch+json"])
def test_a_bomb_in_a_patch_is_refused_soon(media: str) -> None:
    for name in ("open brackets", "open braces"):
        answer = send((YAML if "yaml" in media else JSON)[name], media, f"{CONFIGS}/a?fieldManager=x", "PATCH")
        assert answer.status in (400, 404, 422)
        assert answer.seconds < SECONDS


def test_large_manifests_that_people_write_are_read() -> None:
    text = "\n".join(f"k{n}:\n- name: v{n}\n  value: 'x'" for n in range(10_000))
    assert len(manifest.parse_yaml(text)) == 10_000
    big = b'{"a":[' + b"1," * 1_000_000 + b"1]}"
    assert len(manifest.parse_yaml(big)["a"]) == 1_000_001, "what machines send is JSON, and has no such limit"


POISON = {
    "a NUL": "a\\u0000b",
    "a lone surrogate": "\\ud800",
    "surrogates the wrong way round": "\\udc00\\ud800",
    "an override of direction": "\\u202egnp.exe",
    "an isolate": "\\u2066a\\u2069",
    "a zero width joiner": "a\\u200db",
    "a byte order mark": "\\ufeffa",
    "a line separator": "a\\u2028b",
    "a newline": "a\\nb",
    "an escape": "\\u001b[31m",
    "a homoglyph": "\\u0430dmin",
    "a noncharacter": "\\uffff",
    "beyond the basic plane": "\\ud83d\\udca9",
}


PLACES = {
    "name": '{"metadata":{"name":"%s"}}',
    "label key": '{"metadata":{"name":"a","labels":{"%s":"b"}}}',
    "label value": '{"metadata":{"name":"a","labels":{"a":"%s"}}}',
    "annotation key": '{"metadata":{"name":"a","annotations":{"%s":"b"}}}',
    "finalizer": '{"metadata":{"name":"a","finalizers":["%s"]}}',
    "data key": '{"metadata":{"name":"a"},"data":{"%s":"b"}}',
}


@pytest.mark.parametrize("place", PLACES)
def test_a_poisoned_string_names_nothing(place: str) -> None:
    async def scenario(api: Api) -> None:
        for name, text in POISON.items():
            body = (PLACES[place] % text).encode()
            answer = await api.request("POST", CONFIGS, body, {"content-type": "application/json"})
            assert answer.status in (400, 422), (name, answer.body[:200])

    api_server.run(scenario)


def test_a_poisoned_value_comes_back_as_it_was_or_is_refused() -> None:
    async def scenario(api: Api) -> None:
        for number, (name, text) in enumerate(POISON.items()):
            body = f'{{"metadata":{{"name":"a{number}","annotations":{{"a":"{text}"}}}},"data":{{"k":"{text}"}}}}'
            answer = await api.request("POST", CONFIGS, body.encode(), {"content-type": "application/json"})
            if "surrogate" in name:
                assert answer.status == 400, name
                continue
            assert answer.ok()["data"]["k"] == json.loads(f'"{text}"'), name
            for accept in ("application/yaml", "application/json;as=Table;v=v1;g=meta.k8s.io"):
                assert (await api.get(f"{CONFIGS}/a{number}", accept=accept)).status == 200, name

    api_server.run(scenario)


QUANTITIES = (
    *("9" * 5_000, "1e999999999", "-1e999999999", "1E-999999999", "0." + "0" * 5_000 + "1", "1Ei" * 100, "1e1e1"),
    *("١", "1 Ki", "+", "-", ".", "", "0x10", "1_000", "NaN", "Infinity", "1Zi", "\u0000", "9223372036854775808Ei"),
)


def test_a_quantity_that_overflows_is_taken_or_refused() -> None:
    async def scenario(api: Api) -> None:
        (await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})).ok()
        for number, amount in enumerate(QUANTITIES):
            meta = {"name": f"a{number}"}
            container = {"name": "c", "image": "i", "resources": {"limits": {"cpu": amount, "memory": amount}}}
            pod = {"metadata": meta, "spec": {"containers": [container]}}
            quota = {"metadata": meta, "spec": {"hard": {"limits.cpu": amount, "pods": amount}}}
            for plural, obj in (("resourcequotas", quota), ("pods", pod)):
                answer = await api.create(f"/api/v1/namespaces/default/{plural}", obj)
                assert answer.status in (201, 400, 403, 422), (amount[:20], answer.body[:200])
                assert answer.seconds < SECONDS
        assert (await api.get("/api/v1/pods", accept="application/json;as=Table;v=v1;g=meta.k8s.io")).status == 200

    api_server.run(scenario)
