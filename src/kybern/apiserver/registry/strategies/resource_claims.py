"""ResourceClaims and their templates: who may have administrative access to devices."""

from __future__ import annotations

from typing import Any

from kybern.api.resource_v1 import DeviceClaim
from kybern.apiserver.registry.strategy import Strategy
from kybern.machinery.status import FieldError, forbidden_field

_LABEL = "resource.kubernetes.io/admin-access"
_MESSAGE = f"admin access to devices requires the `{_LABEL}: true` label on the containing namespace"


class ResourceClaims(Strategy):
    def validate_create(self, obj: Any) -> list[FieldError]:
        return super().validate_create(obj) + self._check_requests(obj, obj.spec.devices)

    def validate_status_update(self, obj: Any, old: Any) -> list[FieldError]:
        found = super().validate_status_update(obj, old)
        allocation = obj.status.allocation
        results = allocation.devices.results if allocation is not None and allocation.devices is not None else ()
        before = old.status.allocation
        known = [r.adminAccess for r in before.devices.results] if before is not None and before.devices else []
        wanted = [i for i, r in enumerate(results) if r.adminAccess]
        if wanted and not any(known) and not self._is_open(obj.metadata.namespace):
            found += [forbidden_field(f"status.allocation.devices.results[{i}].adminAccess", _MESSAGE) for i in wanted]
        return found

    def _check_requests(self, obj: Any, devices: DeviceClaim | None) -> list[FieldError]:
        requests = devices.requests if devices is not None else ()
        wanted = [i for i, r in enumerate(requests) if r.exactly is not None and r.exactly.adminAccess]
        if not wanted or self._is_open(obj.metadata.namespace):
            return []
        return [forbidden_field(f"spec.devices.requests[{i}].adminAccess", _MESSAGE) for i in wanted]

    def _is_open(self, name: str) -> bool:
        namespace = self.context.reader.get("namespaces", "", name)
        return namespace is not None and namespace.metadata.labels.get(_LABEL) == "true"


class ResourceClaimTemplates(ResourceClaims):
    def validate_create(self, obj: Any) -> list[FieldError]:
        return Strategy.validate_create(self, obj) + self._check_requests(obj, obj.spec.spec.devices)
