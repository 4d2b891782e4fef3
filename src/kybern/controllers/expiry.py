"""Controllers that delete requests which are over: of one kind each, by a rule that says how long one has left.

Used by certificates (clean) and pod_certificate_cleaner.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from kybern.controllers import runtime

Rule = Callable[[Any, datetime.datetime], float | None]
"""(object, now) -> seconds it has left; 0 or less: none; None: it is not over by itself."""


class Cleaner(runtime.Looped):
    """runtime.Controller; keys are those of the objects."""

    def __init__(self, context: runtime.Context, name: str, kind: type[Any], left: Rule) -> None:
        self._context = context
        self._objects = context.informers.of(kind)
        self._left = left
        self.loop = runtime.Loop(name, self.reconcile, context.clock, workers=1)
        super().__init__(name, self.loop)
        runtime.enqueue_on_change(self.loop, self._objects)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        found = self._objects.by_key(key)
        if found is None or found.metadata.deletionTimestamp is not None:
            return None
        left = self._left(found, self._context.clock.now())
        if left is None:
            return None
        if left > 0:
            return runtime.RequeueAfter(left)
        await self._context.delete(found)
        return None
