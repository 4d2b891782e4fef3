"""What an upstream API server left in a shared store is shown as it would show it itself."""

from __future__ import annotations

import asyncio

import msgspec

from kybern.storage.interface import Store
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api


def stored(**values: object) -> Store:
    """A store with values by key, as upstream writes them: with a line end."""
    store = MemoryStore()

    async def fill() -> None:
        for key, value in values.items():
            await store.create(key, msgspec.json.encode(value) + b"\n")

    asyncio.run(fill())
    return store


METADATA = {"uid": "5d6fd3c2-0000-4000-8000-000000000001", "creationTimestamp": "2026-01-01T00:00:00Z"}


def test_what_upstream_defaults_on_reading_is_defaulted_on_reading() -> None:
    claim = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "metadata": {"name": "c", "namespace": "default", **METADATA},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {},
    }
    key = "/registry/persistentvolumeclaims/default/c"

    async def scenario(api: Api) -> None:
        path = "/api/v1/namespaces/default/persistentvolumeclaims"
        shown = (await api.get(f"{path}/c")).ok()
        assert shown["status"] == {"phase": "Pending"}
        assert shown["spec"]["volumeMode"] == "Filesystem"
        listed = {field: value for field, value in shown.items() if field not in ("kind", "apiVersion")}
        assert (await api.get(path)).ok()["items"] == [listed]
        changed = await api.patch(f"{path}/c", {"metadata": {"labels": {"a": "b"}}})
        assert changed.ok()["metadata"]["labels"] == {"a": "b"}
        assert changed.ok()["status"] == {"phase": "Pending"}

    api_server.run(scenario, store=stored(**{key: claim}))


def test_an_older_version_in_the_store_is_converted() -> None:
    definition = {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "metadata": {"name": "things.example.com", **METADATA},
        "spec": {
            "group": "example.com",
            "version": "v1",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "scope": "Namespaced",
            "validation": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".spec.a"}],
            "versions": [{"name": "v1", "served": True, "storage": True}],
            "conversion": {"strategy": "None"},
            "preserveUnknownFields": False,
        },
        "status": {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]},
    }

    async def scenario(api: Api) -> None:
        shown = (await api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com")).ok()
        assert shown["apiVersion"] == "apiextensions.k8s.io/v1"
        (version,) = shown["spec"]["versions"]
        assert version["schema"]["openAPIV3Schema"]["type"] == "object"
        assert version["additionalPrinterColumns"] == [{"name": "A", "type": "string", "jsonPath": ".spec.a"}]
        assert "validation" not in shown["spec"]

    key = "/registry/apiextensions.k8s.io/customresourcedefinitions/things.example.com"
    api_server.run(scenario, store=stored(**{key: definition}))


def test_what_is_no_object_of_its_kind_is_shown_as_it_stands() -> None:
    async def scenario(api: Api) -> None:
        shown = (await api.get("/api/v1/namespaces/default/pods/p")).ok()
        assert shown["spec"] == "nonsense"

    value = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "default"}, "spec": "nonsense"}
    api_server.run(scenario, store=stored(**{"/registry/pods/default/p": value}))
