"""What is served beside resources: health, version, metrics, discovery, OpenAPI, token keys.

Built by server, looked up by pipeline after authorization.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from kybern.apiserver import version
from kybern.apiserver.authenticate import openid
from kybern.apiserver.authenticate.keys import KeyRing
from kybern.apiserver.discovery import serve as discovery
from kybern.apiserver.health import Check, Health
from kybern.apiserver.metrics import CONTENT_TYPE, Metrics
from kybern.apiserver.openapi import serve as openapi
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.pipeline import PathHandler, Paths
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.apiserver.watch_cache.feed import Feed
from kybern.machinery.status import ApiError


def read_only(handler: PathHandler) -> PathHandler:
    """Refuse all but GET and HEAD."""

    def handle(request: Request) -> Answer | Awaitable[Answer]:
        if request.method not in ("GET", "HEAD"):
            raise ApiError.make(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        return handler(request)

    return handle


def build(
    options: ServerOptions,
    registry: Registry,
    feed: Feed,
    keys: KeyRing,
    metrics: Metrics,
    is_ready: Callable[[], bool],
) -> Paths:
    """All non-resource paths of a server."""
    checks: dict[str, Check] = {
        "ping": lambda: "",
        "log": lambda: "",
        "etcd": lambda: "" if feed.synced else "the store is not loaded",
        "informer-sync": lambda: "" if feed.synced else "the caches are not filled",
        "poststarthook/rbac/bootstrap-roles": lambda: "" if is_ready() else "not finished",
    }
    ready: dict[str, Check] = {**checks, "shutdown": lambda: "" if is_ready() else "not serving"}
    live = {name: checks[name] for name in ("ping", "log", "etcd")}
    healths = {"healthz": Health("healthz", checks), "livez": Health("livez", live), "readyz": Health("readyz", ready)}
    version_document = version.render()
    exact: dict[str, PathHandler] = {
        "/version": read_only(lambda _: Response(body=version_document)),
        "/metrics": lambda _: Response(body=metrics.render(), content_type=CONTENT_TYPE),
        openid.CONFIGURATION_PATH: lambda _: Response(
            body=openid.render_configuration(
                options.service_account_issuer,
                f"https://{options.advertise_address}:{options.secure_port}{openid.KEYS_PATH}",
                keys.keys,
            )
        ),
        openid.KEYS_PATH: lambda _: Response(body=openid.render_keys(keys.keys), content_type=openid.KEYS_TYPE),
        **{f"/{name}": health for name, health in healths.items()},
    }
    exact.update(discovery.paths(registry))
    exact.update(openapi.paths(registry))
    prefixes: list[tuple[str, PathHandler]] = [(f"/{name}/", health) for name, health in healths.items()]
    prefixes += discovery.prefixes(registry)
    prefixes += openapi.prefixes(registry)
    index = orjson.dumps({"paths": sorted(exact)})

    def root(_: Request) -> Response:
        return Response(body=index)

    exact["/"] = root
    return Paths(exact, prefixes)
