"""Approve the client certificates of kubelets, if who asks may have one without a person's consent.

Woken by requests. Whether one may is asked of authorization: a node for itself needs `selfnodeclient`, a joining one
(or whoever asks for another) `nodeclient`.
"""

from __future__ import annotations

from kybern.api import codec, scalars
from kybern.api.authorization_v1 import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from kybern.api.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestCondition
from kybern.controllers import runtime
from kybern.controllers.certificates import rules

NAME = "certificatesigningrequest-approving-controller"
ASK_AGAIN = 60.0  # seconds: the right may be given later


class Approver(runtime.Looped):
    """runtime.Controller; keys are names of requests."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._requests = context.informers.of(CertificateSigningRequest)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._requests)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        request = self._requests.by_key(key)
        if request is None or rules.is_decided(request) or request.status.certificate:
            return None
        wish = _kubelet_wish(request)
        if wish is None:
            return None
        if wish.common_name == request.spec.username and await self._may(request, "selfnodeclient"):
            await self._approve(request, "Auto approving self kubelet client certificate")
        elif await self._may(request, "nodeclient"):
            await self._approve(request, "Auto approving kubelet client certificate")
        else:
            return runtime.RequeueAfter(ASK_AGAIN)
        return None

    async def _may(self, request: CertificateSigningRequest, subresource: str) -> bool:
        spec = request.spec
        asked = ResourceAttributes(
            group="certificates.k8s.io",
            resource="certificatesigningrequests",
            verb="create",
            subresource=subresource,
            version="*",
        )
        review = SubjectAccessReview(
            spec=SubjectAccessReviewSpec(
                user=spec.username,
                uid=spec.uid,
                groups=list(spec.groups),
                extra={name: list(values) for name, values in spec.extra.items()},
                resourceAttributes=asked,
            )
        )
        return (await self._context.client.create(review)).status.allowed

    async def _approve(self, request: CertificateSigningRequest, what: str) -> None:
        stamp = scalars.render_time(self._context.clock.now())
        fresh = codec.clone(request)
        approved = CertificateSigningRequestCondition(
            type=rules.APPROVED,
            status="True",
            reason="AutoApproved",
            message=f"{what} after SubjectAccessReview.",
            lastUpdateTime=stamp,
            lastTransitionTime=stamp,
        )
        fresh.status.conditions = [*fresh.status.conditions, approved]
        await self._context.update(fresh, subresource="approval")


def _kubelet_wish(request: CertificateSigningRequest) -> rules.Wish | None:
    """The request, if it is for a kubelet's client certificate and the signer would sign it."""
    if request.spec.signerName != rules.KUBELET_CLIENT:
        return None
    try:
        wish = rules.parse(request.spec.request)
        rules.check(rules.KUBELET_CLIENT, wish, frozenset(request.spec.usages))
    except rules.Unfit:
        return None
    return wish


def build(context: runtime.Context) -> Approver:
    return Approver(context)
