"""Every active namespace has a ConfigMap `kube-root-ca.crt`: how pods know the API server."""

from __future__ import annotations

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap, Namespace
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import runtime
from kybern.controllers.namespace_objects import NamespaceObjects

NAME = "root-ca-certificate-publisher-controller"
OBJECT = "kube-root-ca.crt"
ANNOTATION = "kubernetes.io/description"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def build(context: runtime.Context) -> NamespaceObjects[ConfigMap]:
    bundle = context.settings.root_ca

    def wanted(namespace: Namespace, found: ConfigMap | None) -> ConfigMap | None:
        data = {"ca.crt": bundle}
        if not bundle or (
            found is not None and found.data == data and found.metadata.annotations.get(ANNOTATION) == DESCRIPTION
        ):
            return None
        if found is None:
            meta = ObjectMeta(name=OBJECT, namespace=namespace.metadata.name, annotations={ANNOTATION: DESCRIPTION})
            return ConfigMap(metadata=meta, data=data)
        fresh = codec.clone(found)
        fresh.data = data
        fresh.metadata.annotations[ANNOTATION] = DESCRIPTION
        return fresh

    objects = context.informers.of(ConfigMap, field_selector=f"metadata.name={OBJECT}")
    return NamespaceObjects(context, NAME, objects, OBJECT, wanted)
