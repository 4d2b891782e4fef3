"""Lifecycle hooks: what a container wants done right after it starts and before it is stopped.

Called by sync/apply. Source: "Container Lifecycle Hooks" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio

from kybern.api.core_v1 import LifecycleHandler
from kybern.kubelet.cri.contract import ContainerId, Cri, CriError
from kybern.kubelet.podkeys import AnyContainer
from kybern.kubelet.probes import http
from kybern.machinery.clock import Clock

HTTP_TIMEOUT = 30.0


class HookFailed(Exception):
    """The hook could not be run, or said no."""


async def run(
    cri: Cri, clock: Clock, handler: LifecycleHandler, container: AnyContainer, container_id: ContainerId, pod_ip: str
) -> None:
    """Raises HookFailed. Unbounded in time: the caller sets the limit."""
    if handler.exec is not None:
        try:
            result = await cri.exec_sync(container_id, handler.exec.command, 0)
        except CriError as error:
            raise HookFailed(f"Exec lifecycle hook ({handler.exec.command}) failed: {error}") from None
        if result.exit_code != 0:
            output = (result.stdout + result.stderr).decode("utf-8", "replace")
            raise HookFailed(
                f"Exec lifecycle hook ({_words(handler.exec.command)}) for Container {container.name!r} failed - "
                f"error: command '{' '.join(handler.exec.command)}' exited with {result.exit_code}: {output}, "
                f"message: {output!r}"
            )
    elif handler.httpGet is not None:
        try:
            target = http.target_of(handler.httpGet, container, pod_ip)
            await http.get(target, handler.httpGet.httpHeaders, HTTP_TIMEOUT)
        except (ValueError, http.HttpFailed) as error:
            raise HookFailed(f"HTTP lifecycle hook for Container {container.name!r} failed - error: {error}") from None
    elif handler.sleep is not None:
        await clock.sleep(float(handler.sleep.seconds))
    elif handler.tcpSocket is not None:
        await _connect(handler, container, pod_ip)


async def _connect(handler: LifecycleHandler, container: AnyContainer, pod_ip: str) -> None:
    action = handler.tcpSocket
    assert action is not None
    try:
        port = http.resolve_port(action.port, container)
        async with asyncio.timeout(HTTP_TIMEOUT):
            _, writer = await asyncio.open_connection(action.host or pod_ip, port)
    except (ValueError, OSError) as error:
        raise HookFailed(f"TCP lifecycle hook for Container {container.name!r} failed - error: {error}") from None
    writer.close()


def _words(command: list[str]) -> str:
    return f"[{' '.join(command)}]"
