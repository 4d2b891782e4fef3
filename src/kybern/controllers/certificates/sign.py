"""Sign approved requests, or say why the signer does not.

Woken by requests. Without an authority it does nothing: somebody else signs then.
"""

from __future__ import annotations

import structlog

from kybern.api import codec, scalars
from kybern.api.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestCondition
from kybern.controllers import runtime
from kybern.controllers.certificates import issue, rules

NAME = "certificatesigningrequest-signing-controller"

log = structlog.get_logger(__name__)


class Signer(runtime.Looped):
    """runtime.Controller; keys are names of requests."""

    def __init__(self, context: runtime.Context, authority: issue.Authority | None) -> None:
        self._context = context
        self._authority = authority
        self._requests = context.informers.of(CertificateSigningRequest)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        if authority is not None:
            runtime.enqueue_on_change(self.loop, self._requests)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        request = self._requests.by_key(key)
        if self._authority is None or request is None or not rules.is_to_be_signed(request):
            return None
        fresh = codec.clone(request)
        now = self._context.clock.now()
        seconds = issue.life(request.spec.expirationSeconds, self._context.settings.cluster_signing_duration)
        usages = frozenset(request.spec.usages)
        try:
            wish = rules.parse(request.spec.request)
            rules.check(request.spec.signerName, wish, usages)
            fresh.status.certificate = self._authority.issue(wish, usages, seconds, now)
        except rules.Unfit as why:
            stamp = scalars.render_time(now)
            failed = CertificateSigningRequestCondition(
                type=rules.FAILED,
                status="True",
                reason="SignerValidationFailure",
                message=str(why),
                lastUpdateTime=stamp,
                lastTransitionTime=stamp,
            )
            fresh.status.conditions = [*fresh.status.conditions, failed]
        await self._context.update_status(fresh)
        return None


def build(context: runtime.Context) -> Signer:
    settings = context.settings
    authority = None
    if settings.cluster_signing_cert and settings.cluster_signing_key:
        authority = issue.Authority(settings.cluster_signing_cert, settings.cluster_signing_key)
    return Signer(context, authority)
