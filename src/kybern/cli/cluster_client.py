"""The command line's own way to the API: a client with the administrator's kubeconfig, and manifests applied."""

from __future__ import annotations

from importlib import resources
from typing import Any

from kybern.api import codec
from kybern.cli.settings import Settings
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery import manifest, scheme
from kybern.machinery.status import ApiError


def connect(settings: Settings) -> RestClient:
    return RestClient.from_kubeconfig(settings.admin_kubeconfig, RealClock())


def read_manifest(name: str) -> list[Any]:
    """The objects of a manifest that ships with the command, typed."""
    text = resources.files("kybern.cli").joinpath("manifests", name).read_bytes()
    objects = []
    for document in manifest.parse_yaml_documents(text):
        struct = scheme.struct_of(document["apiVersion"], document["kind"])
        assert struct is not None, document["kind"]
        objects.append(codec.from_json(struct, document)[0])
    return objects


async def ensure(client: RestClient, obj: Any) -> None:
    """Create an object unless it is there already (a user may have changed it: it is left alone)."""
    try:
        await client.create(obj)
    except ApiError as error:
        if not error.is_already_exists:
            raise
