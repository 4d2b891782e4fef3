"""A ClusterTrustBundle tells everybody which authorities the API server's certificate may come from.

It is named by its content, so that a new one stands beside the old one until that is deleted. Off unless asked for: the
API is behind a gate upstream. Source: "ClusterTrustBundles" in the documentation, and a v1.36 controller manager.
"""

from __future__ import annotations

import hashlib

from kybern.api.certificates_v1beta1 import ClusterTrustBundle, ClusterTrustBundleSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import runtime
from kybern.machinery.status import ApiError

NAME = "kube-apiserver-serving-clustertrustbundle-publisher-controller"
SIGNER = "kubernetes.io/kube-apiserver-serving"
_KEY = "bundle"


def plan_bundle(authorities: str) -> ClusterTrustBundle:
    digest = hashlib.sha256(authorities.encode()).hexdigest()[:24]
    name = f"{SIGNER.replace('/', ':')}:{digest}"
    return ClusterTrustBundle(
        metadata=ObjectMeta(name=name), spec=ClusterTrustBundleSpec(signerName=SIGNER, trustBundle=authorities)
    )


class Publisher(runtime.Looped):
    """runtime.Controller of one object, and of those it replaces."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._authorities = context.settings.root_ca
        self._bundles = context.informers.of(ClusterTrustBundle, field_selector=f"spec.signerName={SIGNER}")
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        self._bundles.on_change(lambda old, new: self.loop.queue.add(_KEY))
        if self._authorities:
            self.loop.queue.add(_KEY)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        if not self._authorities:
            return None
        wanted = plan_bundle(self._authorities)
        found = self._bundles.by_key(wanted.metadata.name)
        if found is None or found.spec.trustBundle != wanted.spec.trustBundle:
            if found is not None:
                wanted.metadata.resourceVersion = found.metadata.resourceVersion
            write = self._context.client.create if found is None else self._context.client.update
            try:
                self._bundles.observe(await write(wanted))
            except ApiError as error:
                if not error.is_already_exists:
                    raise
        for bundle in self._bundles.list():
            if bundle.metadata.name != wanted.metadata.name:
                await self._context.delete(bundle)
        return None


def build(context: runtime.Context) -> Publisher:
    return Publisher(context)
