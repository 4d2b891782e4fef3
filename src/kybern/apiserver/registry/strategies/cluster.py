"""Nodes, events, secrets, certificate requests, disruption budgets, endpoint slices."""

from __future__ import annotations

import uuid
from typing import Any

from kybern.api import scalars
from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.api.certificates_v1beta1 import PodCertificateRequestSpec
from kybern.api.core_v1 import Event, Node
from kybern.api.policy_v1 import PodDisruptionBudgetStatus
from kybern.api.resource import Resource
from kybern.api.resource_v1 import ResourceSlice
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.machinery import gated, validation
from kybern.machinery.status import FieldError
from kybern.machinery.validation import pod_certificates


class Nodes(Strategy):
    selected_from = ("spec.unschedulable",)

    def prepare_create(self, obj: Any, user: User) -> None:
        # A kubelet registers its node whole: capacity and conditions come with the first write.
        node: Node = obj
        node.spec.configSource = None

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        unschedulable = "true" if obj.spec.unschedulable else "false"
        return {"metadata.name": obj.metadata.name, "spec.unschedulable": unschedulable}


class Events(Strategy):
    selected_from = ("involvedObject", "reason", "reportingComponent", "source", "type")

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        event: Event = obj
        involved = event.involvedObject
        # Events of both groups are one resource: each group's own names are known.
        fields = {
            f"{prefix}.{name}": getattr(involved, name) or ""
            for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
            for prefix in ("involvedObject", "regarding")
        }
        return (
            super().selectable_fields(obj)
            | fields
            | {
                "reason": event.reason or "",
                "reportingComponent": event.reportingComponent or "",
                "reportingController": event.reportingComponent or "",
                "source": event.source.component or event.reportingComponent or "",
                "type": event.type or "",
            }
        )

    def selectable_in(self, resource: Resource) -> frozenset[str]:
        others: tuple[str, ...] = ("regarding.", "reportingController")
        if resource.group:
            others = ("involvedObject.", "reportingComponent", "source")
        return frozenset(name for name in self.selectable if not name.startswith(others))


class Secrets(Strategy):
    selected_from = ("type",)

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return super().selectable_fields(obj) | {"type": obj.type or ""}


class CertificateSigningRequests(Strategy):
    selected_from = ("spec.signerName",)

    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        request: CertificateSigningRequest = obj
        # Who asks is what authentication says, never what the body says.
        request.spec.username = user.name
        request.spec.uid = user.uid or None
        request.spec.groups = list(user.groups)
        request.spec.extra = {key: list(values) for key, values in user.extra.items()}

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        obj.spec = old.spec

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        self._stamp(obj, old)

    def prepare_approval_update(self, obj: Any, old: Any) -> None:
        """Conditions, whatever their type; the certificate is the signer's."""
        obj.spec = old.spec
        obj.status.certificate = old.status.certificate
        self._stamp(obj, old)

    def validate_approval_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_approval(obj, old)

    def _stamp(self, request: CertificateSigningRequest, old: CertificateSigningRequest) -> None:
        now = scalars.render_time(self.context.clock.now())
        before = {c.type: c for c in old.status.conditions}
        for condition in request.status.conditions:
            previous = before.get(condition.type)
            if condition.lastUpdateTime is None:
                condition.lastUpdateTime = now
            if condition.lastTransitionTime is None:
                unchanged = previous is not None and previous.status == condition.status
                condition.lastTransitionTime = (previous.lastTransitionTime if unchanged and previous else None) or now

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return {"metadata.name": obj.metadata.name, "spec.signerName": obj.spec.signerName}


class ClusterTrustBundles(Strategy):
    selected_from = ("spec.signerName",)

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return {"metadata.name": obj.metadata.name, "spec.signerName": obj.spec.signerName or ""}


class PodCertificateRequests(Strategy):
    selected_from = ("spec.signerName", "spec.podName", "spec.nodeName")

    def validate_status_update(self, obj: Any, old: Any) -> list[FieldError]:
        errors = super().validate_status_update(obj, old)
        return errors or pod_certificates.check_time(obj, old, self.context.clock.now())

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        spec: PodCertificateRequestSpec = obj.spec
        return super().selectable_fields(obj) | {
            "spec.signerName": spec.signerName,
            "spec.podName": spec.podName,
            "spec.nodeName": spec.nodeName,
        }


class PodDisruptionBudgets(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        obj.status = PodDisruptionBudgetStatus(disruptionsAllowed=0, currentHealthy=0, desiredHealthy=0, expectedPods=0)


class PriorityClasses(Strategy):
    def apply_defaults(self, obj: Any) -> None:
        super().apply_defaults(obj)
        obj.globalDefault = obj.globalDefault or None  # a false one says nothing, as upstream stores it


class Leases(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        gated.drop_from_lease(obj.spec, None)
        super().prepare_create(obj, user)

    def prepare_update(self, obj: Any, old: Any) -> None:
        gated.drop_from_lease(obj.spec, old.spec)
        super().prepare_update(obj, old)


class EndpointSlices(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        # Only what was written before v1 has one.
        for endpoint in obj.endpoints:
            if endpoint.deprecatedTopology:
                endpoint.deprecatedTopology = {}

    def prepare_update(self, obj: Any, old: Any) -> None:
        known = [endpoint.deprecatedTopology for endpoint in old.endpoints]
        for endpoint in obj.endpoints:
            if endpoint.deprecatedTopology and endpoint.deprecatedTopology not in known:
                endpoint.deprecatedTopology = {}
        super().prepare_update(obj, old)
        # Labels count: they say whose endpoints these are.
        if obj.metadata.generation == old.metadata.generation and obj.metadata.labels != old.metadata.labels:
            obj.metadata.generation = (old.metadata.generation or 0) + 1


class LimitRanges(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        # The one kind that upstream names itself.
        obj.metadata.name = obj.metadata.name or str(uuid.UUID(int=self.context.rng.getrandbits(128), version=4))


class ResourceSlices(Strategy):
    selected_from = ("spec.nodeName", "spec.driver")

    def prepare_create(self, obj: Any, user: User) -> None:
        gated.drop_from_slice(obj.spec, None)
        super().prepare_create(obj, user)
        self._stamp(obj)

    def prepare_update(self, obj: Any, old: Any) -> None:
        gated.drop_from_slice(obj.spec, old.spec)
        super().prepare_update(obj, old)
        self._stamp(obj)

    def _stamp(self, resource_slice: ResourceSlice) -> None:
        now = scalars.render_time(self.context.clock.now())
        for device in resource_slice.spec.devices:
            for taint in device.taints:
                if taint.timeAdded is None:
                    taint.timeAdded = now

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return {
            "metadata.name": obj.metadata.name,
            "spec.nodeName": obj.spec.nodeName or "",
            "spec.driver": obj.spec.driver,
        }
