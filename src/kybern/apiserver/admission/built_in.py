"""The plugins that are on by default, in upstream's order, and the objects they need to exist.

Called by apiserver/server. Source of the order: kube-apiserver's --enable-admission-plugins.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from kybern.apiserver.admission import Plugin, bootstrap_objects
from kybern.apiserver.admission.certificate_approval import CertificateApproval
from kybern.apiserver.admission.certificate_signing import CertificateSigning
from kybern.apiserver.admission.certificate_subject_restriction import CertificateSubjectRestriction
from kybern.apiserver.admission.cluster_trust_bundle_attest import ClusterTrustBundleAttest
from kybern.apiserver.admission.default_ingress_class import DefaultIngressClass
from kybern.apiserver.admission.default_storage_class import DefaultStorageClass
from kybern.apiserver.admission.default_toleration_seconds import DefaultTolerationSeconds
from kybern.apiserver.admission.limit_ranger import LimitRanger
from kybern.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kybern.apiserver.admission.node_restriction import NodeRestriction
from kybern.apiserver.admission.persistent_volume_claim_resize import PersistentVolumeClaimResize
from kybern.apiserver.admission.pod_certificate_signing import PodCertificateRequestSigning
from kybern.apiserver.admission.pod_security import PodSecurity
from kybern.apiserver.admission.pod_topology_labels import PodTopologyLabels
from kybern.apiserver.admission.priority import PriorityAdmission
from kybern.apiserver.admission.rbac_escalation import RbacEscalation
from kybern.apiserver.admission.resource_quota import ResourceQuotaAdmission
from kybern.apiserver.admission.runtime_class import RuntimeClassAdmission
from kybern.apiserver.admission.service_account import ServiceAccountAdmission
from kybern.apiserver.admission.storage_object_in_use_protection import StorageObjectInUseProtection
from kybern.apiserver.admission.taint_nodes_by_condition import TaintNodesByCondition
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader, Writer
from kybern.machinery.clock import Clock


def plugins(
    reader: Reader,
    writer: Writer,
    authorizers: Authorizers,
    clock: Clock,
    rng: random.Random,
    configured: Sequence[Plugin] = (),
) -> list[Plugin]:
    """All of them; `configured` are those that do what users configure: policies, webhooks.

    The quota is last: what it reserves, nothing after it refuses.
    """
    return [
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        ServiceAccountAdmission(reader, rng),
        NodeRestriction(reader, authorizers),
        TaintNodesByCondition(),
        PodSecurity(reader),
        PriorityAdmission(reader),
        DefaultTolerationSeconds(),
        DefaultStorageClass(reader),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(reader),
        RuntimeClassAdmission(reader),
        CertificateApproval(authorizers),
        CertificateSigning(authorizers),
        ClusterTrustBundleAttest(authorizers),
        PodCertificateRequestSigning(authorizers),
        CertificateSubjectRestriction(),
        DefaultIngressClass(reader),
        PodTopologyLabels(reader),
        RbacEscalation(authorizers),
        *configured,
        ResourceQuotaAdmission(reader, writer, clock),
    ]


def system_objects(reader: Reader) -> list[Any]:
    """Objects of every cluster that are missing, namespaces first."""
    return [*bootstrap_objects.plan_namespaces(reader), *bootstrap_objects.plan_priority_classes(reader)]
