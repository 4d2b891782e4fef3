"""Delete requests that are over: settled for an hour, pending for a day, or with an expired certificate."""

from __future__ import annotations

from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.controllers import runtime
from kybern.controllers.certificates import rules
from kybern.controllers.expiry import Cleaner

NAME = "certificatesigningrequest-cleaner-controller"


def build(context: runtime.Context) -> Cleaner:
    return Cleaner(context, NAME, CertificateSigningRequest, rules.expires_in)
