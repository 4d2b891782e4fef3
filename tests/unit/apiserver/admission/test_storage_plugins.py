from __future__ import annotations

from typing import Any

import pytest

from kybern.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    VolumeResourceRequirements,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.networking_v1 import Ingress, IngressClass, IngressSpec
from kybern.api.scalars import Quantity, Time
from kybern.api.storage_v1 import StorageClass
from kybern.testing.gate import Gate


def storage_class(
    name: str, default: str = "true", created: str = "2026-01-01T00:00:00Z", **fields: Any
) -> StorageClass:
    annotations = {"storageclass.kubernetes.io/is-default-class": default}
    meta = ObjectMeta(name=name, annotations=annotations, creationTimestamp=Time(created))
    return StorageClass(metadata=meta, **fields)


def claim(size: str = "1Gi", storage_class_name: str | None = None, phase: str = "Bound") -> PersistentVolumeClaim:
    resources = VolumeResourceRequirements(requests={"storage": Quantity(size)})
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name="c", namespace="ns"),
        spec=PersistentVolumeClaimSpec(storageClassName=storage_class_name, resources=resources),
        status=PersistentVolumeClaimStatus(phase=phase),
    )


class TestDefaultStorageClass:
    def test_the_newest_default_is_taken_and_the_first_by_name_of_one_second(self) -> None:
        gate = Gate()
        gate.objects.put(storage_class("old"))
        gate.objects.put(storage_class("zz", created="2026-01-02T00:00:00Z"))
        gate.objects.put(storage_class("aa", created="2026-01-02T00:00:00Z"))
        gate.objects.put(storage_class("no", default="false", created="2026-01-03T00:00:00Z"))
        assert gate.create(claim()).spec.storageClassName == "aa"

    def test_what_the_claim_says_counts_also_when_it_says_none(self) -> None:
        gate = Gate()
        gate.objects.put(storage_class("std"))
        assert gate.create(claim(storage_class_name="")).spec.storageClassName == ""
        assert gate.create(claim(storage_class_name="x")).spec.storageClassName == "x"

    def test_without_a_default_the_claim_waits(self) -> None:
        assert Gate().create(claim()).spec.storageClassName is None


class TestDefaultIngressClass:
    def gate(self) -> Gate:
        gate = Gate()
        annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
        gate.objects.put(IngressClass(metadata=ObjectMeta(name="web", annotations=annotations)))
        return gate

    def ingress(self, name: str | None = None, **annotations: str) -> Ingress:
        meta = ObjectMeta(name="i", namespace="ns", annotations=annotations)
        return Ingress(metadata=meta, spec=IngressSpec(ingressClassName=name))

    def test_an_ingress_without_class_gets_the_default(self) -> None:
        assert self.gate().create(self.ingress()).spec.ingressClassName == "web"

    def test_what_the_ingress_says_counts(self) -> None:
        assert self.gate().create(self.ingress("own")).spec.ingressClassName == "own"
        old = self.ingress(**{"kubernetes.io/ingress.class": "x"})
        assert self.gate().create(old).spec.ingressClassName is None


class TestInUseProtection:
    def test_claims_and_volumes_get_their_finalizer_once(self) -> None:
        gate = Gate()
        made = gate.create(claim())
        assert made.metadata.finalizers == ["kubernetes.io/pvc-protection"]
        assert gate.create(made).metadata.finalizers == ["kubernetes.io/pvc-protection"]
        volume = PersistentVolume(metadata=ObjectMeta(name="v"))
        assert gate.create(volume).metadata.finalizers == ["kubernetes.io/pv-protection"]

    def test_a_finalizer_that_was_taken_off_stays_off(self) -> None:
        made = Gate().update(claim(), claim())
        assert made.metadata.finalizers == []


class TestResize:
    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            (claim("1Gi", "grow"), claim("2Gi", "grow"), ""),
            (claim("1Gi", "fixed"), claim("2Gi", "fixed"), "only dynamically provisioned pvc can be resized"),
            (claim("1Gi", "gone"), claim("2Gi", "gone"), "only dynamically provisioned pvc can be resized"),
            (claim("1Gi"), claim("2Gi"), "only dynamically provisioned pvc can be resized"),
            (claim("1Gi", "grow", "Pending"), claim("2Gi", "grow", "Pending"), "Only bound persistent volume claims"),
            (claim("2Gi", "fixed"), claim("2Gi", "fixed"), ""),
            (claim("2Gi", "fixed"), claim("1Gi", "fixed"), ""),
        ],
    )
    def test_a_claim_grows_if_its_class_can(
        self, old: PersistentVolumeClaim, new: PersistentVolumeClaim, why: str
    ) -> None:
        gate = Gate()
        gate.objects.put(storage_class("grow", allowVolumeExpansion=True))
        gate.objects.put(storage_class("fixed"))
        refused = gate.refusal(gate.update, new, old)
        assert (why in refused) if why else not refused
