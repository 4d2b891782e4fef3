"""GET componentstatuses: how the other parts of the control plane are, asked at this moment. Deprecated upstream.

Not stored: each read asks the components' health ports on this machine, as kube-apiserver does.
"""

from __future__ import annotations

import asyncio

from kybern.api import codec
from kybern.api.core_v1 import ComponentCondition, ComponentStatus, ComponentStatusList
from kybern.api.meta_v1 import ListMeta, ObjectMeta
from kybern.apiserver import negotiate, table
from kybern.apiserver.handlers import forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

# name -> health port on loopback; the store is this process's own
_PORTS = {"controller-manager": 10257, "scheduler": 10259}
_STORE = "etcd-0"
_SECONDS = 2.0
_WARNING = "v1 ComponentStatus is deprecated in v1.19+"


async def read(handlers: Handlers, request: Request) -> Answer:
    """One component's status, or all. Raises ApiError 404, 406."""
    accepted = negotiate.choose(request.headers.get("accept", ""))
    info = request.info
    names = [_STORE, *_PORTS]
    if info.name and info.name not in names:
        request.warnings.append(_WARNING)
        raise ApiError.not_found("", "componentstatus", info.name)
    asked = [info.name] if info.name else names
    statuses = await asyncio.gather(*(_status(handlers, name) for name in asked))
    request.warnings.append(_WARNING)
    if accepted.shape == "Table":
        resource = scheme.resource_for("", "v1", "componentstatuses")
        assert resource is not None
        body = table.render(resource, statuses, handlers.clock.now(), version=accepted.shape_version)
    elif info.name:
        body = codec.encode(statuses[0])
    else:
        body = codec.encode(ComponentStatusList(metadata=ListMeta(), items=list(statuses)))
    return Response(body=forms.encoded(body, accepted), content_type=accepted.content_type)


async def _status(handlers: Handlers, name: str) -> ComponentStatus:
    fault = "" if handlers.feed.synced else "the store is not loaded"
    if name != _STORE:
        fault = await _ask(_PORTS[name])
    condition = ComponentCondition(type="Healthy", status="False" if fault else "True", message=fault or "ok")
    return ComponentStatus(metadata=ObjectMeta(name=name), conditions=[condition])


async def _ask(port: int) -> str:
    """What is wrong, or nothing when /healthz answers 200."""
    writer = None
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
    except (OSError, TimeoutError) as error:
        return f"Get http://127.0.0.1:{port}/healthz: {error or 'no answer in time'}"
    finally:
        if writer is not None:
            writer.close()
    return "" if line.split()[1:2] == [b"200"] else f"/healthz answered {line.decode(errors='replace').strip()}"
