"""PodCertificateRequests are deleted a quarter of an hour after they were made: by then a kubelet has its answer.

Source: "Certificates and Certificate Signing Requests: pod certificates" in the documentation.
"""

from __future__ import annotations

import datetime

from kybern.api import scalars
from kybern.api.certificates_v1beta1 import PodCertificateRequest
from kybern.controllers import runtime
from kybern.controllers.expiry import Cleaner

NAME = "podcertificaterequest-cleaner-controller"
LIFETIME = 15 * 60.0


def _left(request: PodCertificateRequest, now: datetime.datetime) -> float:
    made = scalars.parse_time(request.metadata.creationTimestamp or "")
    return LIFETIME - (now - made).total_seconds()


def build(context: runtime.Context) -> Cleaner:
    return Cleaner(context, NAME, PodCertificateRequest, _left)
