"""What priority and fairness does of its own accord: its objects, their conditions, and the seats of each level.

Started by server as one task. Writes as the server itself does, past admission; another server over the same store may
be faster, which is as good.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import structlog

from kybern.api import codec, scalars
from kybern.api.flowcontrol_v1 import FlowSchema, FlowSchemaCondition
from kybern.apiserver.flow_control import bootstrap, shares
from kybern.apiserver.flow_control.control import LEVELS, SCHEMAS, FlowControl
from kybern.apiserver.registry.registry import Objects
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.storage.interface import StoreError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0  # between two looks whether an object has changed
MAINTAIN_SECONDS = 60.0
DANGLING = "Dangling"


class Upkeep:
    """The task of one server."""

    def __init__(self, control: FlowControl, objects: Objects, clock: Clock) -> None:
        self._control = control
        self._objects = objects
        self._clock = clock

    async def maintain(self) -> None:
        """Make the objects that every cluster has, and change or delete those that differ. Raises ApiError."""
        plans = (
            (LEVELS, bootstrap.MANDATORY_LEVELS, bootstrap.SUGGESTED_LEVELS),
            (SCHEMAS, bootstrap.MANDATORY_SCHEMAS, bootstrap.SUGGESTED_SCHEMAS),
        )
        for resource, mandatory, suggested in plans:
            todo = bootstrap.plan(self._objects.list(resource), mandatory, suggested)
            for obj in todo.create:
                await _unless_others_do(self._objects.create(resource, obj))
            for obj in todo.update:
                await _unless_others_do(self._objects.update(resource, obj))
            for obj in todo.delete:
                await _unless_others_do(self._objects.delete(resource, "", obj.metadata.name))

    async def tell(self) -> None:
        """Write the condition of every schema whose level is not as the condition says. Raises ApiError."""
        for schema in self._objects.list(SCHEMAS):
            level = schema.spec.priorityLevelConfiguration.name
            exists = self._objects.get(LEVELS, "", level) is not None
            changed = plan_condition(schema, exists, scalars.render_time(self._clock.now()))
            if changed is not None:
                await _unless_others_do(self._objects.update(SCHEMAS, changed))

    async def run(self) -> None:
        """Keep everything as it must be, until cancelled."""
        seen: tuple[int, int] | None = None
        maintained = adjusted = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            if now - adjusted >= shares.PERIOD:
                adjusted = now
                self._control.adjust()
            if now - maintained >= MAINTAIN_SECONDS:
                maintained = now
                await self._attempt(self.maintain())
            current = (self._objects.version(SCHEMAS), self._objects.version(LEVELS))
            if current != seen:
                seen = current
                self._control.reload()
                if not await self._attempt(self.tell()):
                    seen = None
            await self._clock.sleep(LOOK_SECONDS)

    async def _attempt(self, work: Awaitable[None]) -> bool:
        try:
            await work
        except (ApiError, StoreError, OSError) as error:
            log.warning("the objects of priority and fairness could not be kept", error=str(error))
            return False
        return True


async def _unless_others_do(write: Awaitable[Any]) -> None:
    try:
        await write
    except ApiError as error:
        if not (error.is_already_exists or error.is_not_found or error.is_conflict):
            raise


def plan_condition(schema: FlowSchema, exists: bool, now: str) -> FlowSchema | None:
    """The schema with the condition it must have, or None where it has it."""
    level = schema.spec.priorityLevelConfiguration.name
    told = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    wanted = FlowSchemaCondition(
        type=DANGLING,
        status="False" if exists else "True",
        reason="Found" if exists else "NotFound",
        message=f"{told} and it exists" if exists else f"{told} but there is no such object",
        lastTransitionTime=scalars.Time(now),
    )
    old = next((c for c in schema.status.conditions if c.type == DANGLING), None)
    if old is not None:
        if (old.status, old.reason, old.message) == (wanted.status, wanted.reason, wanted.message):
            return None
        if old.status == wanted.status:
            wanted.lastTransitionTime = old.lastTransitionTime
    changed = codec.clone(schema)
    changed.status.conditions = [c for c in changed.status.conditions if c.type != DANGLING] + [wanted]
    return changed
