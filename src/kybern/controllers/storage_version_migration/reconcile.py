"""Write every object of a resource once more, without changing it, so that the store holds it in today's form.

Woken by StorageVersionMigrations. The server encodes an object anew with every write and leaves out those that would
change nothing, so that a migration costs what there is to migrate, and one begun anew after a restart is cheap. Objects
that somebody writes or deletes meanwhile need no help. Afterwards a definition of custom resources lists no other
stored version than the present one.
"""

from __future__ import annotations

import structlog

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.resource import Resource
from kybern.api.storagemigration_v1beta1 import StorageVersionMigration
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.storage_version_migration import plan
from kybern.machinery.status import ApiError

log = structlog.get_logger(__name__)

NAME = "storage-version-migrator-controller"
PAGE = 500  # objects a list request
WIDTH = 4  # writes under way at a time: nobody waits for a migration
UNSERVED_SECONDS = 15.0  # until a resource that nobody serves is looked for again


class Migrator(runtime.Looped):
    """runtime.Controller; keys are names of migrations."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._migrations = context.informers.of(StorageVersionMigration)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=2)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._migrations)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        migration = self._migrations.by_key(key)
        if migration is None or plan.is_settled(migration) or migration.metadata.deletionTimestamp is not None:
            return None
        if not plan.is_running(migration):
            fresh = codec.clone(migration)
            fresh.status.conditions = plan.begun(fresh.status.conditions, self._context.clock.now())
            migration = await self._context.update_status(fresh)
        resource = plan.find(migration, (await self._context.discover()).preferred())
        if resource is None:
            return runtime.RequeueAfter(UNSERVED_SECONDS)  # a definition, or a server behind it, may be on its way
        why_not = plan.obstacle(resource)
        if not why_not:
            migration = await self._note_version(migration, resource)
            definition = await self._definition(resource)
            why_not = await self._touch_all(resource)
            if not why_not and definition is not None and not await self._forget_versions(definition):
                return runtime.RequeueAfter(0.0)
        fresh = codec.clone(migration)
        fresh.status.conditions = plan.settled(fresh.status.conditions, self._context.clock.now(), why_not)
        await self._context.update_status(fresh)
        return None

    async def _note_version(self, migration: StorageVersionMigration, resource: Resource) -> StorageVersionMigration:
        """What was written after this version is in today's form already."""
        if migration.status.resourceVersion:
            return migration
        first = await self._context.client.list(shapes.partial(resource), limit=1)
        fresh = codec.clone(migration)
        fresh.status.resourceVersion = first.resource_version
        return await self._context.update_status(fresh)

    async def _touch_all(self, resource: Resource) -> str:
        """Why an object cannot be written, "" if all could. Raises ApiError where it may help to begin anew later."""
        client, shape, page = self._context.client, shapes.partial(resource), ""

        async def touch(obj: shapes.PartialView) -> None:
            meta = obj.metadata
            # Changes nothing, and holds for exactly this life and revision of it.
            patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resourceVersion}}
            try:
                await client.patch(shape, meta.namespace, meta.name, patch)
            except ApiError as error:
                if not (error.is_not_found or error.is_conflict):  # written or deleted meanwhile: no need of us
                    raise

        while True:
            found = await client.list(shape, limit=PAGE, continue_token=page)
            errors = await runtime.fan_out(found.items, touch, width=WIDTH)
            if errors:
                log.warning("objects that cannot be migrated", resource=resource.plural, count=len(errors))
                lasting = [error for error in errors if plan.is_lasting(error)]
                if not lasting:
                    raise errors[0]
                return f"migration encountered unhandled error: {lasting[0]}"
            page = found.continue_token
            if not page:
                return ""

    async def _definition(self, resource: Resource) -> CustomResourceDefinition | None:
        """Of a custom resource; None for others."""
        if not resource.group or resource.module:
            return None
        try:
            return await self._context.client.get(CustomResourceDefinition, "", f"{resource.plural}.{resource.group}")
        except ApiError as error:
            if error.is_not_found:  # a server of its own behind an APIService
                return None
            raise

    async def _forget_versions(self, before: CustomResourceDefinition) -> bool:
        """No object is stored in another version by now, so that the definition may drop the others.

        False if what is stored was redefined meanwhile: objects touched before that are of an older version.
        """
        name = before.metadata.name
        now = await self._context.client.get(CustomResourceDefinition, "", name)
        stored = plan.stored_versions(now)
        if stored != plan.stored_versions(before) or now.metadata.uid != before.metadata.uid:
            return False
        if now.status.storedVersions != stored:
            version = now.metadata.resourceVersion
            patch = {"metadata": {"resourceVersion": version}, "status": {"storedVersions": stored}}
            await self._context.client.patch(CustomResourceDefinition, "", name, patch, subresource="status")
        return True


def build(context: runtime.Context) -> Migrator:
    return Migrator(context)
