"""CustomResourceDefinitions for tests, as JSON, and how to wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
ANY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
PATIENCE = 200  # looks


def version(name: str = "v1", schema: Mapping[str, Any] = ANY, **more: Any) -> dict[str, Any]:
    """One version; `more` are its other fields."""
    return {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}, **more}


def definition(
    plural: str = "crontabs",
    kind: str = "CronTab",
    schema: Mapping[str, Any] = ANY,
    *,
    group: str = GROUP,
    versions: list[dict[str, Any]] | None = None,
    names: Mapping[str, Any] | None = None,
    scope: str = "Namespaced",
    **more: Any,
) -> dict[str, Any]:
    """A definition; `more` goes into its spec, and into its one version if that is what it is about."""
    found = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": kind + "List", **(names or {})}
    own = {k: more.pop(k) for k in ("subresources", "additionalPrinterColumns", "selectableFields") if k in more}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": found,
            "versions": versions or [version("v1", schema, **own)],
            **more,
        },
    }


async def establish(api: Api, document: Mapping[str, Any]) -> str:
    """Create a definition and wait until it is served; returns where (its first version, namespace default)."""
    (await api.create(DEFINITIONS, document)).ok()
    await wait_for(api, document["metadata"]["name"], "Established", "True")
    spec = document["spec"]
    scope = "" if spec["scope"] == "Cluster" else "/namespaces/default"
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}{scope}/{spec['names']['plural']}"


async def wait_for(api: Api, name: str, kind: str, status: str) -> dict[str, Any]:
    """The definition, once a condition has a status."""
    for _ in range(PATIENCE):
        found: dict[str, Any] = (await api.get(f"{DEFINITIONS}/{name}")).ok()
        if any(c["type"] == kind and c["status"] == status for c in found["status"].get("conditions", ())):
            return found
        await asyncio.sleep(0)
    raise AssertionError(f"{name} does not become {kind}={status}: {found['status']}")


async def wait_until_gone(api: Api, target: str) -> None:
    """Return once a target is answered 404."""
    for _ in range(PATIENCE):
        if (await api.get(target)).status == 404:
            return
        if isinstance(api.clock, FakeClock):
            await api.clock.advance(0.1)
    raise AssertionError(f"{target} does not go")


def custom(name: str, kind: str = "CronTab", *, api_version: str = f"{GROUP}/v1", **fields: Any) -> dict[str, Any]:
    """A custom object."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}
