"""What is special about writing CustomResourceDefinitions. Asked by registry/resource_store."""

from __future__ import annotations

from typing import Any

from kybern.api import scalars
from kybern.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionNames
from kybern.apiserver.custom_resources import conditions, definition
from kybern.apiserver.custom_resources.definition import shape
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.machinery.status import FieldError
from kybern.machinery.validation import metadata


class CustomResourceDefinitions(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        made: CustomResourceDefinition = obj
        shape.settle(made)
        made.status.acceptedNames = CustomResourceDefinitionNames()
        made.status.storedVersions = [v.name for v in made.spec.versions if v.storage][:1]

    def prepare_update(self, obj: Any, old: Any) -> None:
        shape.settle(obj)
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

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        stored = obj.status.storedVersions
        stored += [v.name for v in obj.spec.versions if v.storage and v.name not in stored]

    def validate_create(self, obj: Any) -> list[FieldError]:
        errors: list[FieldError] = []
        metadata.check(obj.metadata, self.resource, errors)
        return errors + definition.check_create(obj)

    def validate_update(self, obj: Any, old: Any) -> list[FieldError]:
        errors: list[FieldError] = []
        metadata.check_update(obj.metadata, old.metadata, self.resource, errors)
        return errors + definition.check_update(obj, old)

    def validate_status_update(self, obj: Any, old: Any) -> list[FieldError]:
        return super().validate_status_update(obj, old) + definition.check_status(obj)

    def before_delete(self, obj: Any) -> None:
        """Its objects go first: lifecycle sees to that."""
        leaving: CustomResourceDefinition = obj
        if leaving.metadata.deletionTimestamp is not None:
            return
        if conditions.FINALIZER not in leaving.metadata.finalizers:
            leaving.metadata.finalizers.append(conditions.FINALIZER)
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        now = scalars.render_time(self.context.clock.now())
        conditions.put(leaving.status.conditions, "Terminating", "True", "InstanceDeletionPending", message, now)

    def begin_deletion(self, obj: Any) -> None:
        """Upstream does not count it as a change, and gives it no time."""
        leaving: CustomResourceDefinition = obj
        leaving.metadata.deletionGracePeriodSeconds = None
        if leaving.metadata.generation:
            leaving.metadata.generation -= 1
