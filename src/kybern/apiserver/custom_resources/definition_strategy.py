"""What is special about writing CustomResourceDefinitions. Asked by registry/resource_store."""

from __future__ import annotations

from typing import Any

from kybern.api import scalars
from kybern.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionNames
from kybern.apiserver.custom_resources import conditions
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User


class CustomResourceDefinitions(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        definition: CustomResourceDefinition = obj
        definition.status.acceptedNames = CustomResourceDefinitionNames()
        definition.status.storedVersions = [v.name for v in definition.spec.versions if v.storage]

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        # A version that was ever stored stays listed until somebody has migrated its objects.
        stored = list(old.status.storedVersions)
        added = [v.name for v in obj.spec.versions if v.storage and v.name not in stored]
        if added:
            obj.status = type(obj.status)(
                acceptedNames=old.status.acceptedNames,
                conditions=old.status.conditions,
                observedGeneration=old.status.observedGeneration,
                storedVersions=[*stored, *added],
            )

    def before_delete(self, obj: Any) -> None:
        """Its objects go first: lifecycle sees to that."""
        definition: CustomResourceDefinition = obj
        if definition.metadata.deletionTimestamp is not None:
            return
        if conditions.FINALIZER not in definition.metadata.finalizers:
            definition.metadata.finalizers.append(conditions.FINALIZER)
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        now = scalars.render_time(self.context.clock.now())
        conditions.put(definition.status.conditions, "Terminating", "True", "InstanceDeletionPending", message, now)

    def begin_deletion(self, obj: Any) -> None:
        """Upstream does not count it as a change, and gives it no time."""
        definition: CustomResourceDefinition = obj
        definition.metadata.deletionGracePeriodSeconds = None
        if definition.metadata.generation:
            definition.metadata.generation -= 1
