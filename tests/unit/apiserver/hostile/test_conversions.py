"""Conversion webhooks that answer garbage: who asks is told so, by a 500 that says whose fault it is; all else goes on.

Upstream answers with 500 "conversion webhook for ... failed" too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kybern.testing.api_server import Api, run
from kybern.testing.definitions import custom, definition, establish, version
from kybern.testing.webhooks import FakeWebhooks

URL = "https://convert.example.com/crd"
Review = dict[str, Any]


def respond(review: Review, objects: Any, **response: Any) -> Review:
    said = {"uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects, **response}
    return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": said}


def converted(review: Review, **fields: Any) -> list[Any]:
    target = review["request"]["desiredAPIVersion"]
    return [{**obj, "apiVersion": target, **fields} for obj in review["request"]["objects"]]


def with_meta(review: Review, **fields: Any) -> list[Any]:
    return [{**obj, "metadata": {**obj["metadata"], **fields}} for obj in converted(review)]


GARBAGE: dict[str, Callable[[Review], Any]] = {
    "twice as many objects": lambda r: respond(r, converted(r) * 2),
    "a hundred thousand objects": lambda r: respond(r, converted(r) * 100_000),
    "no object": lambda r: respond(r, []),
    "null for the objects": lambda r: respond(r, None),
    "a map for the objects": lambda r: respond(r, {"a": 1}),
    "numbers for objects": lambda r: respond(r, [1 for _ in converted(r)]),
    "null for an object": lambda r: respond(r, [None for _ in converted(r)]),
    "a text for the result": lambda r: respond(r, converted(r), result="Success"),
    "a list for the result": lambda r: respond(r, converted(r), result=["Success"]),
    "a number for the message": lambda r: respond(r, [], result={"status": "Failed", "message": 7}),
    "another uid": lambda r: respond(r, converted(r), uid="another"),
    "no uid": lambda r: respond(r, converted(r), uid=None),
    "the version that was sent": lambda r: respond(r, r["request"]["objects"]),
    "a version that there is not": lambda r: respond(r, converted(r, apiVersion="stable.example.com/v9")),
    "another group": lambda r: respond(r, converted(r, apiVersion="other.example.com/v2")),
    "another kind": lambda r: respond(r, converted(r, kind="Other")),
    "a list for the kind": lambda r: respond(r, converted(r, kind=["CronTab"])),
    "another uid of the object": lambda r: respond(r, with_meta(r, uid="u")),
    "another namespace": lambda r: respond(r, with_meta(r, namespace="other")),
    "labels that are no texts": lambda r: respond(r, with_meta(r, labels={"a": {"b": 1}})),
    "labels as a list": lambda r: respond(r, [{**o, "metadata": []} for o in converted(r)]),
    "the question": lambda r: r,
    "an empty answer": lambda r: b"",
    "an open bracket": lambda r: b"[" * 1_000_000,
    "a megabyte of braces": lambda r: b'{"a":' * 200_000,
    "text that is none": lambda r: b"\xff\xfe" * 1000,
    "a review of another kind": lambda r: {**respond(r, converted(r)), "kind": "AdmissionReview"},
    "a review of a version nobody asked for": lambda r: {
        **respond(r, converted(r)),
        "apiVersion": "apiextensions.k8s.io/v1beta1",
    },
    "a redirect": lambda r: (302, b""),
    "a teapot": lambda r: (418, msgspec.json.encode(respond(r, converted(r)))),
}


def two_versions() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": URL}}
    versions = [{**version("v1", schema), "storage": True}, {**version("v2", schema), "storage": False}]
    return definition(versions=versions, conversion={"strategy": "Webhook", "webhook": webhook})


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_of_a_conversion_is_told_to_who_asked_and_harms_nobody_else(name: str) -> None:
    async def scenario(api: Api) -> None:
        one = await establish(api, two_versions())
        two = one.replace("/v1/", "/v2/")
        (await api.create(one, custom("a", a="x"))).ok()
        for target in (f"{two}/a", two):
            failed = await api.get(target)
            assert failed.status == 500, failed.json
            assert "conversion webhook for stable.example.com/v1, Kind=CronTab failed" in failed.json["message"]
            assert len(failed.body) < 5_000
        refused = await api.create(two, custom("b", api_version="stable.example.com/v2", a="y"))
        assert refused.status == 500
        assert "conversion webhook for stable.example.com/v2" in refused.json["message"]
        assert [obj["metadata"]["name"] for obj in (await api.get(one)).ok()["items"]] == ["a"]
        assert (await api.delete(f"{one}/a")).status == 200

    run(scenario, webhooks=FakeWebhooks({URL: GARBAGE[name]}))


def test_an_object_that_a_conversion_blows_up_is_kept_as_it_was() -> None:
    def huge(review: Review) -> Review:
        return respond(review, converted(review, a="x" * 2_000_000))

    async def scenario(api: Api) -> None:
        one = await establish(api, two_versions())
        (await api.create(one, custom("a", a="x"))).ok()
        assert len((await api.get(f"{one.replace('/v1/', '/v2/')}/a")).ok()["a"]) == 2_000_000
        assert (await api.get(f"{one}/a")).ok()["a"] == "x"

    run(scenario, webhooks=FakeWebhooks({URL: huge}))
