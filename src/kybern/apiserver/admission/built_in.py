"""The plugins that are on by default, in upstream's order, and the objects they need to exist.

Called by apiserver/server. Source of the order: kube-apiserver's --enable-admission-plugins.
"""

from __future__ import annotations

import random
from typing import Any

from kybern.apiserver.admission import Plugin, bootstrap_objects
from kybern.apiserver.admission.default_toleration_seconds import DefaultTolerationSeconds
from kybern.apiserver.admission.limit_ranger import LimitRanger
from kybern.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kybern.apiserver.admission.priority import PriorityAdmission
from kybern.apiserver.admission.rbac_escalation import RbacEscalation
from kybern.apiserver.admission.resource_quota import ResourceQuotaAdmission
from kybern.apiserver.admission.service_account import ServiceAccountAdmission
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader, Writer
from kybern.machinery.clock import Clock


def plugins(reader: Reader, writer: Writer, authorizers: Authorizers, clock: Clock, rng: random.Random) -> list[Plugin]:
    """All of them. The quota is last: what it reserves, nothing after it refuses."""
    return [
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        ServiceAccountAdmission(reader, rng),
        PriorityAdmission(reader),
        DefaultTolerationSeconds(),
        RbacEscalation(authorizers),
        ResourceQuotaAdmission(reader, writer, clock),
    ]


def system_objects(reader: Reader) -> list[Any]:
    """Objects of every cluster that are missing, namespaces first."""
    return [*bootstrap_objects.plan_namespaces(reader), *bootstrap_objects.plan_priority_classes(reader)]
