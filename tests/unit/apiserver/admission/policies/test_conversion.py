"""Policies about versions that a webhook converts to. Answers are those of a v1.36 API server with the same webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kybern.testing.api_server import Answer, Api, run
from kybern.testing.definitions import DEFINITIONS, definition, version
from kybern.testing.webhooks import FakeWebhooks

GROUP = "/apis/admissionregistration.k8s.io/v1"
URL = "https://convert.example.com/crd"


def convert(review: dict[str, Any]) -> dict[str, Any]:
    """`v1` has hostPort, `v2` has host and port. Objects whose name begins with `bad` cannot be converted."""
    request = review["request"]
    response: dict[str, Any] = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": []}
    for obj in request["objects"]:
        made = {**obj, "apiVersion": request["desiredAPIVersion"]}
        if obj["metadata"].get("name", "").startswith("bad"):
            response["result"] = {"status": "Failure", "message": "no way"}
        elif made["apiVersion"].endswith("/v2"):
            made["host"], _, made["port"] = made.pop("hostPort", ":").partition(":")
        else:
            made["hostPort"] = f"{made.pop('host', '')}:{made.pop('port', '')}"
        response["convertedObjects"].append(made)
    return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response}


def things() -> dict[str, Any]:
    text = {"type": "string"}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": URL}}
    one = {"type": "object", "properties": {"hostPort": text}}
    two = {"type": "object", "properties": {"host": text, "port": text}}
    versions = [{**version("v1", one), "storage": True}, {**version("v2", two), "storage": False}]
    return definition(versions=versions, conversion={"strategy": "Webhook", "webhook": webhook})


class Things:
    """What the scenarios do with the resource."""

    def __init__(self, api: Api, made: dict[str, Any]) -> None:
        self.api = api
        names = made["spec"]["names"]
        self.group, self.plural, self.kind = made["spec"]["group"], names["plural"], names["kind"]

    async def create(self, in_version: str, name: str, **fields: Any) -> Answer:
        obj = {"apiVersion": f"{self.group}/{in_version}", "kind": self.kind, "metadata": {"name": name}, **fields}
        return await self.api.create(f"/apis/{self.group}/{in_version}/namespaces/default/{self.plural}", obj)

    async def delete(self, in_version: str, name: str) -> Answer:
        where = f"/apis/{self.group}/{in_version}/namespaces/default/{self.plural}/{name}"
        return await self.api.request("DELETE", where)

    async def rule(self, kind: str, operations: list[str], bound: dict[str, Any], **spec: Any) -> None:
        """A policy about v2, which sees other versions as v2."""
        rules = {
            "apiGroups": [self.group],
            "apiVersions": ["v2"],
            "operations": operations,
            "resources": [self.plural],
        }
        plural = f"{kind.lower().removesuffix('y')}ies"
        match = {"matchPolicy": "Equivalent", "resourceRules": [rules]}
        policy = {"metadata": {"name": "p"}, "spec": {"matchConstraints": match, **spec}}
        (await self.api.create(f"{GROUP}/{plural}", policy)).ok()
        binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", **bound}}
        (await self.api.create(f"{GROUP}/{plural.removesuffix('ies')}ybindings", binding)).ok()


async def validate(things: Things, **spec: Any) -> None:
    told = "'host is ' + object.host + ' of ' + request.kind.version + ' ' + request.requestKind.version"
    validation = {"expression": "object == null || object.host != 'evil'", "messageExpression": told}
    bound = {"validationActions": ["Deny"]}
    operations = ["CREATE", "UPDATE", "DELETE"]
    await things.rule("ValidatingAdmissionPolicy", operations, bound, validations=[validation], **spec)


async def mutate(things: Things, **spec: Any) -> None:
    applied = {"expression": "Object{port: '77'}"}
    patch = {"expression": "[JSONPatch{op: 'add', path: '/host', value: object.host + '-' + object.port}]"}
    mutations = [
        {"patchType": "ApplyConfiguration", "applyConfiguration": applied},
        {"patchType": "JSONPatch", "jsonPatch": patch},
    ]
    await things.rule(
        "MutatingAdmissionPolicy", ["CREATE"], {}, mutations=mutations, reinvocationPolicy="Never", **spec
    )


def play(scenario: Callable[[Things], Awaitable[None]]) -> None:
    async def start(api: Api) -> None:
        made = things()
        (await api.create(DEFINITIONS, made)).ok()
        await asyncio.sleep(2)  # of the loop's time: until it is established
        await scenario(Things(api, made))

    run(start, webhooks=FakeWebhooks({URL: convert}))


def test_a_policy_sees_objects_in_the_version_that_it_names() -> None:
    async def scenario(things: Things) -> None:
        await validate(things)
        refused = await things.create("v1", "a", hostPort="evil:1")
        assert refused.status == 422
        assert refused.json["message"].endswith("denied request: host is evil of v2 v1")
        refused = await things.create("v2", "a", host="evil")
        assert refused.json["message"].endswith("denied request: host is evil of v2 v2")
        assert (await things.create("v1", "a", hostPort="good:1")).ok()["hostPort"] == "good:1"
        (await things.delete("v1", "a")).ok()

    play(scenario)


def test_an_object_that_cannot_be_converted_is_refused_as_the_policy_says() -> None:
    async def scenario(things: Things) -> None:
        await validate(things)
        refused = await things.create("v1", "bad", hostPort="good:1")
        assert refused.status == 422
        assert (
            "denied request: failed to configure binding: failed to convert object version" in refused.json["message"]
        )
        assert refused.json["message"].endswith("failed: no way")

    async def lenient(things: Things) -> None:
        await validate(things, failurePolicy="Ignore")
        (await things.create("v1", "bad", hostPort="evil:1")).ok()

    play(scenario)
    play(lenient)


def test_a_mutation_of_another_version_comes_back_converted() -> None:
    async def scenario(things: Things) -> None:
        await mutate(things)
        assert (await things.create("v1", "a", hostPort="good:1")).ok()["hostPort"] == "good-77:77"
        made = (await things.create("v2", "b", host="good", port="1")).ok()
        assert (made["host"], made["port"]) == ("good-77", "77")

    play(scenario)


def test_a_mutation_of_what_cannot_be_converted_is_refused_as_the_policy_says() -> None:
    async def scenario(things: Things) -> None:
        await mutate(things)
        refused = await things.create("v1", "bad", hostPort="good:1")
        assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
        assert refused.json["message"].startswith('policy "p" denied request: failed to configure policy: conversion')

    async def lenient(things: Things) -> None:
        await mutate(things, failurePolicy="Ignore")
        assert (await things.create("v1", "bad", hostPort="good:1")).ok()["hostPort"] == "good:1"

    play(scenario)
    play(lenient)


def test_parameters_are_read_in_the_version_that_the_policy_names() -> None:
    async def scenario(things: Things) -> None:
        (await things.create("v1", "limits", hostPort="good:1")).ok()
        rules = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
        policy = {
            "metadata": {"name": "p"},
            "spec": {
                "paramKind": {"apiVersion": f"{things.group}/v2", "kind": things.kind},
                "matchConstraints": {"resourceRules": [rules]},
                "validations": [{"expression": "object.metadata.name == params.host", "message": "not so"}],
            },
        }
        reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
        bound = {"policyName": "p", "validationActions": ["Deny"], "paramRef": reference}
        (await things.api.create(f"{GROUP}/validatingadmissionpolicies", policy)).ok()
        made = {"metadata": {"name": "b"}, "spec": bound}
        (await things.api.create(f"{GROUP}/validatingadmissionpolicybindings", made)).ok()
        maps = "/api/v1/namespaces/default/configmaps"
        (await things.api.create(maps, {"metadata": {"name": "good"}})).ok()
        assert "not so" in (await things.api.create(maps, {"metadata": {"name": "other"}})).json["message"]

    play(scenario)
