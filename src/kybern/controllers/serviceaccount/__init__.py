"""Every active namespace has a ServiceAccount `default`: pods that name none run as that."""

from __future__ import annotations

from kybern.api.core_v1 import Namespace, ServiceAccount
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import runtime
from kybern.controllers.namespace_objects import NamespaceObjects

NAME = "serviceaccount-controller"


def build(context: runtime.Context) -> NamespaceObjects[ServiceAccount]:
    def wanted(namespace: Namespace, found: ServiceAccount | None) -> ServiceAccount | None:
        if found is not None:
            return None
        return ServiceAccount(metadata=ObjectMeta(name="default", namespace=namespace.metadata.name))

    return NamespaceObjects(context, NAME, context.informers.of(ServiceAccount), "default", wanted)
