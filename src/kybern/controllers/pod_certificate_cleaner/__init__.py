"""PodCertificateRequests are deleted a quarter of an hour after they were made: by then a kubelet has its answer.

Source: "Certificates and Certificate Signing Requests: pod certificates" in the documentation.
"""

from __future__ import annotations

from kybern.api import scalars
from kybern.api.certificates_v1beta1 import PodCertificateRequest
from kybern.controllers import runtime

NAME = "podcertificaterequest-cleaner-controller"
LIFETIME = 15 * 60.0


class Cleaner(runtime.Looped):
    """runtime.Controller; keys are those of requests."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._requests = context.informers.of(PodCertificateRequest)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._requests)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        request = self._requests.by_key(key)
        if request is None or request.metadata.deletionTimestamp is not None:
            return None
        made = scalars.parse_time(request.metadata.creationTimestamp or "")
        left = LIFETIME - (self._context.clock.now() - made).total_seconds()
        if left > 0:
            return runtime.RequeueAfter(left)
        await self._context.delete(request)
        return None


def build(context: runtime.Context) -> Cleaner:
    return Cleaner(context)
