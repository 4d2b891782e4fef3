"""What handlers work with: built once by apiserver/server, passed to every handler."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kybern.apiserver.admission import Attributes
from kybern.apiserver.handlers.forms import Forms
from kybern.apiserver.registry.registry import Registry, Served
from kybern.apiserver.request import Answer, Request
from kybern.apiserver.watch_cache.entry import Entry
from kybern.apiserver.watch_cache.feed import Feed
from kybern.machinery.clock import Clock

Handler = Callable[["Handlers", Request, Served], Answer | Awaitable[Answer]]
# Of resources that are not stored (reviews and the like): there is no Served.
VirtualHandler = Callable[[Request], Answer | Awaitable[Answer]]


@dataclass(slots=True)
class Handlers:
    """The server as its handlers see it."""

    registry: Registry
    feed: Feed
    clock: Clock
    rng: random.Random
    # What is no write of a ResourceStore goes through admission here, whole.
    admit: Callable[[Attributes], Awaitable[None] | None]
    forms: Forms
    # Whether a request's user may do its thing with another verb. Raises ApiError 403.
    authorize: Callable[[Request, str], None]
    # Handlers that need more than this, installed by subresources: "pods/log", ...
    extensions: dict[str, Callable[[Handlers, Request, Served], Answer | Awaitable[Answer]]] = field(
        default_factory=dict
    )
    # Handlers of resources that are not stored, by group_resource.
    virtual: dict[str, VirtualHandler] = field(default_factory=dict)
    # The bytes of what was asked for lately; see get.
    recent: dict[Entry, bytes] = field(default_factory=dict)
