"""Namespaces: they end in two steps, deletion and finalization."""

from __future__ import annotations

from typing import Any

from kybern.api.core_v1 import Namespace, NamespaceStatus
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.machinery import validation
from kybern.machinery.status import FieldError

KUBERNETES = "kubernetes"  # the finalizer of the namespace controller


class Namespaces(Strategy):
    selected_from = ("status.phase",)

    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        namespace: Namespace = obj
        namespace.status = NamespaceStatus(phase="Active")
        if KUBERNETES not in namespace.spec.finalizers:
            namespace.spec.finalizers = [*namespace.spec.finalizers, KUBERNETES]

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        # spec.finalizers change through the finalize subresource only.
        obj.spec.finalizers = list(old.spec.finalizers)

    def prepare_finalize_update(self, obj: Any, old: Any) -> None:
        obj.status = old.status

    def validate_finalize_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_finalize(obj, old)

    def begin_deletion(self, obj: Any) -> None:
        obj.metadata.deletionGracePeriodSeconds = None
        obj.status.phase = "Terminating"

    def may_go(self, obj: Any) -> bool:
        return not obj.metadata.finalizers and not obj.spec.finalizers

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return {"metadata.name": obj.metadata.name, "status.phase": obj.status.phase or ""}
