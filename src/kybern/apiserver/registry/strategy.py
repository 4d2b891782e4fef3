"""What is special about a kind when it is written: the generic rules, to be overridden a resource at a time.

Asked by registry/resource_store, in this order:
create: defaults -> `prepare_create` -> admission -> `validate_create` -> `allocate` -> store (`release` if that fails);
update: defaults -> `prepare_update` -> admission -> `validate_update` -> `allocate` -> store;
status: `prepare_status_update` -> `validate_status_update` -> store; delete: `graceful_seconds`, then `after_delete`.
Special ones live in strategies/<resource>.py and are listed in strategies/__init__.py as
`STRATEGIES: dict[group_resource, Callable[[Context], Strategy]]`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kybern.api import codec
from kybern.api.autoscaling_v1 import Scale
from kybern.api.meta_v1 import DeleteOptions, ObjectMeta
from kybern.api.resource import Resource
from kybern.apiserver.registry import facts
from kybern.apiserver.request import Reader, User, Writer
from kybern.machinery import defaults, labels, validation, warnings
from kybern.machinery.clock import Clock
from kybern.machinery.feature_gates import DEFAULT, Gates
from kybern.machinery.status import FieldError


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy may use."""

    reader: Reader
    writer: Writer
    clock: Clock
    rng: random.Random
    service_cidr: str = "10.96.0.0/12"
    node_port_range: tuple[int, int] = (30000, 32767)
    gates: Gates = DEFAULT


class Strategy:
    """The generic rules of every kind with metadata, and spec and status where it has them."""

    # What `selectable_fields` reads beyond metadata.name and metadata.namespace: nothing else of an object is decoded
    # when a store is loaded.
    selected_from: ClassVar[tuple[str, ...]] = ()

    # Deleted objects may stay for a while (`graceful_seconds`).
    is_graceful: ClassVar[bool] = False

    def __init__(self, context: Context, resource: Resource) -> None:
        self.context = context
        self.resource = resource
        name = resource.group_resource
        # PUT to a missing name creates.
        self.create_on_update = name in facts.CREATE_ON_UPDATE
        # DELETE answers with the last state of the object instead of a Status.
        self.returns_deleted = name in facts.RETURNS_DELETED
        # Unconditional update (no resourceVersion in the body) is allowed.
        self.unconditional_update = name not in facts.CONDITIONAL_UPDATE
        # What becomes of dependents where a deletion does not say.
        self.default_propagation = "Orphan" if name in facts.ORPHANING else None
        self.has_dependents = name not in facts.CHILDLESS
        self._has_generation = name in facts.GENERATION
        self._metadata_kept = name in facts.METADATA_KEPT_WITH_STATUS

    def prepare_create(self, obj: Any, user: User) -> None:
        """Reset what a client may not set: status, generation."""
        if hasattr(obj, "status") and self._has_status():
            obj.status = type(obj)().status
        if self._has_generation:
            obj.metadata.generation = 1

    def prepare_update(self, obj: Any, old: Any) -> None:
        """Keep status and generation from `old`; bump the generation when the spec changes."""
        if hasattr(obj, "status") and self._has_status():
            obj.status = old.status
        obj.metadata.generation = old.metadata.generation
        self._bump_generation(obj, old)

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        """Keep everything but status (and metadata that status writers may touch: none)."""
        status = obj.status
        metadata = obj.metadata
        for field in obj.__struct_fields__:
            if field not in ("status", "metadata"):
                setattr(obj, field, getattr(old, field))
        obj.status = status
        # Labels, annotations, finalizers and owners of a status write count, for most kinds; the rest is the server's.
        metadata.generation = old.metadata.generation
        if self._metadata_kept:
            for field in ("labels", "annotations", "finalizers", "ownerReferences"):
                setattr(metadata, field, getattr(old.metadata, field))
        if self.resource.group == "flowcontrol.apiserver.k8s.io":  # there, all of it
            metadata.generateName = old.metadata.generateName
            metadata.deletionGracePeriodSeconds = old.metadata.deletionGracePeriodSeconds

    def apply_defaults(self, obj: Any) -> None:
        defaults.apply(obj)

    def validate_create(self, obj: Any) -> list[FieldError]:
        return validation.validate_create(obj)

    def validate_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_update(obj, old)

    def validate_status_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_status_update(obj, old)

    async def allocate(self, obj: Any, old: Any | None, *, dry_run: bool) -> Callable[[], None] | None:
        """Take what the object needs from a shared pool (cluster IPs, node ports), writing it into `obj`.

        Returns how to give it back should the write fail. A dry run books nothing. Raises ApiError.
        """
        return None

    def before_delete(self, obj: Any) -> None:
        """`obj` (a private copy) is about to be deleted, or marked: what must be settled before goes into it."""

    def scale_of(self, obj: Any) -> Scale:
        """What an object with replicas looks like as a Scale."""
        selector = obj.spec.selector
        chosen = labels.from_map(selector) if isinstance(selector, dict) else labels.from_label_selector(selector)
        replicas = obj.spec.replicas if obj.spec.replicas is not None else 1
        return new_scale(obj.metadata, replicas, obj.status.replicas or 0, str(chosen))

    @property
    def replicas_path(self) -> tuple[str, ...]:
        """The fields on the way to the replicas that a Scale sets."""
        return ("spec", "replicas")

    def set_replicas(self, obj: Any, replicas: int) -> None:
        """The inverse, on a private copy."""
        obj.spec.replicas = replicas

    def after_delete(self, obj: Any) -> None:
        """The object is gone from the store: give back what `allocate` took."""

    def graceful_seconds(self, obj: Any, asked: int | None) -> int:
        """How long a deleted object may stay: 0 removes it at once (pods override this)."""
        return 0

    def warnings_on_delete(self, options: DeleteOptions) -> list[str]:
        """What a client may not expect of a deletion."""
        return []

    def begin_deletion(self, obj: Any) -> None:
        """`obj` (a private copy) has just got its deletionTimestamp: namespaces turn Terminating here."""

    def may_go(self, obj: Any) -> bool:
        """Nothing holds a deleted object back any more (namespaces add spec.finalizers)."""
        return not obj.metadata.finalizers

    def warnings_on_create(self, obj: Any) -> list[str]:
        """What is legal and yet not wise about a new object."""
        return warnings.of(obj)

    def warnings_on_update(self, obj: Any, old: Any) -> list[str]:
        """The same of a changed one, where it was not so before."""
        return warnings.of_change(obj, old)

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        """Fields that field selectors may name, with this object's values."""
        return {"metadata.name": obj.metadata.name, "metadata.namespace": obj.metadata.namespace}

    @property
    def selectable(self) -> frozenset[str]:
        """The names `selectable_fields` knows; any other is answered 400."""
        return frozenset(self.selectable_fields(self._empty()))

    def selectable_in(self, resource: Resource) -> frozenset[str]:
        """Those of them that a version knows; `resource` is the resource as that version shows it."""
        return self.selectable

    def _empty(self) -> Any:
        from kybern.machinery import scheme

        struct = scheme.struct_of(self.resource.api_version, self.resource.kind)
        assert struct is not None, self.resource
        return struct()

    def _has_status(self) -> bool:
        return any(s.name == "status" for s in self.resource.subresources)

    def _bump_generation(self, obj: Any, old: Any) -> None:
        """Upstream compares everything but metadata and status."""
        if not self._has_generation:
            return
        for field in obj.__struct_fields__:
            if field not in ("metadata", "status") and getattr(obj, field) != getattr(old, field):
                obj.metadata.generation = (old.metadata.generation or 0) + 1
                return


def new_scale(meta: ObjectMeta, wanted: int, present: int, selector: str) -> Scale:
    scale = Scale(
        metadata=ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resourceVersion=meta.resourceVersion,
            creationTimestamp=meta.creationTimestamp,
        )
    )
    scale.spec.replicas = wanted or None  # none are not told, as upstream
    scale.status.replicas = present
    scale.status.selector = selector or None
    return scale


def clone(obj: Any) -> Any:
    """A private copy of a shared object."""
    return codec.clone(obj)
