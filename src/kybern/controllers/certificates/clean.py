"""Delete requests that are over: settled for an hour, pending for a day, or with an expired certificate."""

from __future__ import annotations

from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.controllers import runtime
from kybern.controllers.certificates import rules

NAME = "certificatesigningrequest-cleaner-controller"


class Cleaner(runtime.Looped):
    """runtime.Controller; keys are names of requests."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._requests = context.informers.of(CertificateSigningRequest)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._requests)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        request = self._requests.by_key(key)
        if request is None or request.metadata.deletionTimestamp is not None:
            return None
        left = rules.expires_in(request, self._context.clock.now())
        if left:
            return runtime.RequeueAfter(left)
        if left is not None:
            await self._context.delete(request)
        return None


def build(context: runtime.Context) -> Cleaner:
    return Cleaner(context)
