"""The handlers of this folder, installed: pods/{exec,attach,portforward,log,proxy}, services/proxy, nodes/proxy.

Called once by handlers/subresources. Everything that connects passes admission (CONNECT) first.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Awaitable, Callable
from typing import Any

from kybern.apiserver.admission import Attributes
from kybern.apiserver.authorize import attributes as authorize_attributes
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.proxy import forward, targets
from kybern.apiserver.proxy.kubelet import DialerOptions, KubeletDialer
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError

Connect = Callable[[Request], Awaitable[Answer]]


def install(handlers: Handlers, options: ServerOptions, authorizers: Authorizers) -> None:
    """Add the handlers to `handlers.extensions`."""
    reader, clock, rng = handlers.registry.objects, handlers.clock, handlers.rng
    dialer = KubeletDialer(
        DialerOptions(options.kubelet_client_certificate, options.kubelet_client_key, options.kubelet_ca)
    )

    def connect(resource: str, subresource: str, answer: Connect) -> None:
        async def handle(owner: Handlers, request: Request, served: Served) -> Answer:
            if request.info.verb == "get" and resource == "pods" and subresource != "proxy":
                # A WebSocket is opened with GET, yet it does what POST does: reading rights do not suffice.
                create = dataclasses.replace(request.info, verb="create")
                authorizers.require(request.user, authorize_attributes.of_request(create))
            asked = _connect_options(served, request)
            attributes = Attributes(
                operation="CONNECT",
                resource=served.resource,
                subresource=request.info.subresource,
                namespace=request.info.namespace,
                name=request.info.name,
                object=asked,
                old=None,
                user=request.user,
                options=asked,
            )
            waiting = owner.admit(attributes)
            if waiting is not None:
                await waiting
            request.warnings += attributes.warnings
            return await answer(request)

        handlers.extensions[f"{resource}/{subresource}"] = handle

    async def log(_: Handlers, request: Request, served: Served) -> Answer:
        answer: Answer = await _pods().read_log(request, reader, dialer, clock)
        return answer

    async def pod(request: Request) -> Answer:
        asked = targets.parse_name(request.info.name, "pod")
        found = reader.get("pods", request.info.namespace, asked.name)
        if found is None:
            raise ApiError.not_found("", "pods", asked.name)
        return await _proxy(request, dialer, targets.pod_target(found, asked))

    async def service(request: Request) -> Answer:
        asked = targets.parse_name(request.info.name, "service")
        namespace = request.info.namespace
        found = reader.get("services", namespace, asked.name)
        endpoints = reader.get("endpoints", namespace, asked.name)

        def pod_of(name: str) -> Any:
            return reader.get("pods", namespace, name)

        return await _proxy(request, dialer, targets.service_target(found, endpoints, asked, pod_of, rng))

    async def node(request: Request) -> Answer:
        asked = targets.parse_name(request.info.name, "node")
        found = reader.get("nodes", "", asked.name)
        if found is None:
            raise ApiError.not_found("", "nodes", asked.name)
        return await _proxy(request, dialer, targets.node_target(found, asked))

    handlers.extensions["pods/log"] = log
    connect("pods", "exec", lambda request: _pods().exec_pod(request, reader, dialer))
    connect("pods", "attach", lambda request: _pods().attach_pod(request, reader, dialer))
    connect("pods", "portforward", lambda request: _pods().forward_ports(request, reader, dialer))
    connect("pods", "proxy", pod)
    connect("services", "proxy", service)
    connect("nodes", "proxy", node)


def _pods() -> types.ModuleType:
    """Imported when first asked for: its protocols are a twentieth of what a start would import."""
    from kybern.apiserver.proxy import pods

    return pods


def _connect_options(served: Served, request: Request) -> dict[str, Any]:
    """The query as admission sees it: an object of the subresource's kind (PodExecOptions, ...)."""
    subresource = request.info.subresource
    known = next((s for s in served.resource.subresources if s.name == subresource), None)
    found: dict[str, Any] = {"kind": known.kind if known else "", "apiVersion": "v1"}
    if subresource == "proxy":
        return {**found, "path": request.info.tail}
    for name in ("stdin", "stdout", "stderr", "tty"):
        if name in request.query:
            found[name] = request.flag(name).lower() not in ("false", "0")
    if request.flag("container"):
        found["container"] = request.flag("container")
    if "command" in request.query:
        found["command"] = list(request.query["command"])
    if "ports" in request.query:
        found["ports"] = [_port(text) for text in ",".join(request.query["ports"]).split(",")]
    return found


def _port(text: str) -> int:
    """Raises ApiError (400)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ApiError.bad_request(
            f'cannot convert to []int32: strconv.ParseUint: parsing "{text[:64]}": invalid syntax'
        )
    return int(text)


async def _proxy(request: Request, dialer: KubeletDialer, target: targets.Target) -> Answer:
    prefix, tail = split_target(request.target)
    path, mark, query = tail.partition("?")
    if not path:
        if request.method in ("GET", "HEAD"):
            # Relative links of the page at the root need the slash.
            return Response(301, b"", "", (("Location", f"{prefix}/{mark}{query}"),))
        path = "/"
    return await forward.forward(request, dialer, target, prefix, path + mark + query)


def split_target(target: str) -> tuple[str, str]:
    """A raw target at its `proxy` segment: `/api/v1/nodes/n/proxy`, `/a?b`."""
    path, mark, query = target.partition("?")
    parts = path.split("/")
    seen = 0
    is_namespaced = [p for p in parts if p][2:3] == ["namespaces"]
    wanted = 7 if is_namespaced else 5  # api v1 [namespaces ns] plural name proxy
    for index, part in enumerate(parts):
        seen += bool(part)
        if seen == wanted:
            prefix = "/".join(parts[: index + 1])
            rest = parts[index + 1 :]
            return prefix, ("/" + "/".join(rest) if rest else "") + mark + query
    return path, mark + query
