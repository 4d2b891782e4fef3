"""Install the handlers that lead through the API server to kubelets, pods and services.

Called by handlers/subresources with the handlers to add to ("pods/log", "pods/exec", "nodes/proxy", ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kybern.apiserver.handlers.context import Handlers

if TYPE_CHECKING:
    from kybern.apiserver.server import ServerOptions


def install(handlers: Handlers, options: ServerOptions) -> None:
    """Add every proxying subresource."""
