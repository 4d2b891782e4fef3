"""What the API server is told: made of flags by process/apiserver, read by server and by what it builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kybern.apiserver.audit.build import AuditOptions
from kybern.apiserver.authenticate import jwt_tokens
from kybern.apiserver.authenticate.configuration import Configuration
from kybern.apiserver.authenticate.webhook_tokens import WebhookTokenOptions
from kybern.apiserver.authorize import configuration as authorize_configuration
from kybern.apiserver.authorize.configuration import Entry
from kybern.machinery.feature_gates import Gates


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the flags say, files read; bytes are PEM."""

    advertise_address: str = "127.0.0.1"
    secure_port: int = 6443
    client_ca: bytes = b""
    front_proxy_ca: bytes = b""
    front_proxy_names: tuple[str, ...] = ("front-proxy-client",)
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_ca: str = ""
    proxy_client_certificate: str = ""  # shown to the servers behind APIServices
    proxy_client_key: str = ""
    aggregator_routing: bool = False  # to their endpoints, not to cluster IPs
    static_tokens: str = ""
    service_account_public_key: bytes = b""
    service_account_signing_key: bytes = b""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    service_account_max_token_expiration: int = 0  # seconds; 0: no limit
    service_account_extend_token_expiration: bool = False
    service_cidr: str = "10.96.0.0/12"
    node_port_range: tuple[int, int] = (30000, 32767)
    runtime_config: str = ""
    gates: Gates = field(default_factory=Gates)
    event_ttl: float = 3600.0
    authentication: Configuration = field(default_factory=Configuration)
    jwt_algorithms: tuple[str, ...] = jwt_tokens.ALGORITHMS
    token_webhook: WebhookTokenOptions | None = None
    authorization: tuple[Entry, ...] = authorize_configuration.DEFAULT
    audit: AuditOptions = field(default_factory=AuditOptions)
    # Priority and fairness: the sum of both is what is shared out. Without it each is a limit of its own, 0: none.
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    request_timeout: float = 60.0
    shutdown_send_retry_after: bool = False
    flags: Mapping[str, object] = field(default_factory=dict)  # as given, for /flagz
