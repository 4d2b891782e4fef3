"""What is served beside resources: health, version, metrics, discovery, OpenAPI, token keys.

Built by server, looked up by pipeline after authorization.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from kybern.apiserver import version
from kybern.apiserver.aggregator.discovery import Offered
from kybern.apiserver.authenticate import openid
from kybern.apiserver.authenticate.keys import KeyRing
from kybern.apiserver.discovery import serve as discovery
from kybern.apiserver.health import ServerHealth
from kybern.apiserver.metrics import CONTENT_TYPE, Metrics
from kybern.apiserver.openapi import serve as openapi
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.pipeline import PathHandler, Paths
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.zpages import page
from kybern.machinery import zpages
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError


def routed(handler: PathHandler, media: str = "application/json") -> PathHandler:
    """What is read by GET alone, as `media` and nothing else."""
    accepted = (media, "*/*", media.partition("/")[0] + "/*")

    def handle(request: Request) -> Answer | Awaitable[Answer]:
        if request.method != "GET":
            raise ApiError.no_such_method()
        accept = request.headers.get("accept", "")
        if accept and not any(part.partition(";")[0].strip().lower() in accepted for part in accept.split(",")):
            raise ApiError.no_representation((media,))
        return handler(request)

    return handle


_STATUS_PATHS = ("/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version")


def build(
    options: ServerOptions,
    registry: Registry,
    feed: Feed,
    keys: KeyRing,
    metrics: Metrics,
    health: ServerHealth,
    clock: Clock,
    offered: Callable[[], Offered] = Offered,
) -> Paths:
    """All non-resource paths of a server."""
    healths = health.handlers()
    started = clock.now()
    version_document = version.render()
    number = version.GIT_VERSION[1:].split("+")[0]
    exact: dict[str, PathHandler] = {
        "/version": routed(lambda _: Response(body=version_document)),
        "/metrics": lambda _: Response(body=metrics.render(), content_type=CONTENT_TYPE),
        "/metrics/slis": lambda _: Response(body=metrics.slis.render(), content_type=CONTENT_TYPE),
        "/flagz": page(
            "Flagz",
            lambda: zpages.render_flags("apiserver", options.flags),
            lambda told: zpages.flags_document("apiserver", options.flags, told),
        ),
        "/statusz": page(
            "Statusz",
            lambda: zpages.render_status("apiserver", number, started, clock.now(), _STATUS_PATHS),
            lambda told: zpages.status_document("apiserver", number, started, clock.now(), _STATUS_PATHS, told),
        ),
        openid.CONFIGURATION_PATH: routed(
            lambda _: Response(
                body=openid.render_configuration(
                    options.service_account_issuer,
                    f"https://{options.advertise_address}:{options.secure_port}{openid.KEYS_PATH}",
                    keys.keys,
                )
            )
        ),
        openid.KEYS_PATH: routed(
            lambda _: Response(body=openid.render_keys(keys.keys), content_type=openid.KEYS_TYPE), openid.KEYS_TYPE
        ),
        **{path: handler for path, handler in healths.items() if not path.endswith("/")},
    }
    exact.update(discovery.paths(registry, offered))
    documents = openapi.openapi_of(registry, clock, offered)
    exact.update(openapi.paths(documents))
    prefixes: list[tuple[str, PathHandler]] = [item for item in healths.items() if item[0].endswith("/")]
    prefixes += discovery.prefixes(registry, offered)
    prefixes += openapi.prefixes(documents)
    index = orjson.dumps({"paths": sorted(exact)})

    def root(_: Request) -> Response:
        return Response(body=index)

    exact["/"] = root
    return Paths(exact, prefixes)
