"""Flags of the API server about who may come in, who may do what, what is recorded and what is encrypted.

Part of process/apiserver: `SecurityFlags` is inherited by its Options. Files are read here, and followed where the
documentation says that they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kybern.apiserver.audit.batch import BatchOptions
from kybern.apiserver.audit.build import AuditOptions
from kybern.apiserver.audit.log_file import LogOptions
from kybern.apiserver.authenticate import configuration as authentication
from kybern.apiserver.authenticate import jwt_tokens
from kybern.apiserver.authenticate.configuration import OidcFlags
from kybern.apiserver.authenticate.webhook_tokens import WebhookTokenOptions
from kybern.apiserver.authorize import configuration as authorization
from kybern.apiserver.authorize.webhook import WebhookOptions
from kybern.apiserver.encryption import configuration as encryption
from kybern.apiserver.encryption.store import EncryptedStore
from kybern.apiserver.reload import Reload
from kybern.apiserver.server import ApiServer
from kybern.client import kubeconfig
from kybern.machinery.clock import Clock
from kybern.storage.interface import Store


@dataclass(frozen=True, slots=True)
class SecurityFlags:
    """As kube-apiserver calls them; times in seconds."""

    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    service_account_max_token_expiration: int = 0  # seconds; 0: no limit
    service_account_extend_token_expiration: bool = True
    authentication_config: str = ""  # file of an AuthenticationConfiguration
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_ca_file: str = ""
    oidc_required_claim: str = ""  # key=value,...
    oidc_signing_algs: str = "RS256"
    authentication_token_webhook_config_file: str = ""  # kubeconfig
    authentication_token_webhook_version: str = "v1beta1"
    authentication_token_webhook_cache_ttl: float = 120.0
    authorization_config: str = ""  # file of an AuthorizationConfiguration
    authorization_mode: str = "Node,RBAC"
    authorization_webhook_config_file: str = ""  # kubeconfig
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300.0
    authorization_webhook_cache_unauthorized_ttl: float = 30.0
    audit_policy_file: str = ""
    audit_log_path: str = ""  # "-": standard output
    audit_log_maxage: int = 0  # days
    audit_log_maxbackup: int = 0  # files
    audit_log_maxsize: int = 100  # megabytes
    audit_log_mode: str = "blocking"  # or blocking-strict, batch
    audit_log_batch_buffer_size: int = 10_000  # events
    audit_log_batch_max_size: int = 1
    audit_log_batch_max_wait: float = 0.0  # seconds
    audit_log_truncate_enabled: bool = False
    audit_log_truncate_max_event_size: int = 102_400  # bytes
    audit_webhook_config_file: str = ""  # kubeconfig
    audit_webhook_mode: str = "batch"
    audit_webhook_initial_backoff: float = 10.0  # seconds
    audit_webhook_batch_buffer_size: int = 10_000
    audit_webhook_batch_max_size: int = 400
    audit_webhook_batch_max_wait: float = 30.0
    audit_webhook_batch_throttle_qps: float = 10.0
    audit_webhook_batch_throttle_burst: int = 15
    audit_webhook_truncate_enabled: bool = False
    audit_webhook_truncate_max_event_size: int = 102_400
    audit_webhook_truncate_max_batch_size: int = 10_485_760
    encryption_provider_config: str = ""  # file of an EncryptionConfiguration
    encryption_provider_config_automatic_reload: bool = False


def server_options(flags: SecurityFlags) -> dict[str, Any]:
    """The fields of ServerOptions that come of these flags. Raises OSError, ValueError."""
    return {
        "service_account_max_token_expiration": flags.service_account_max_token_expiration,
        "service_account_extend_token_expiration": flags.service_account_extend_token_expiration,
        "authentication": _authentication(flags),
        "jwt_algorithms": _algorithms(flags),
        "token_webhook": _token_webhook(flags),
        "authorization": _authorization(flags),
        "audit": audit_options(flags),
    }


def encrypted(store: Store, flags: SecurityFlags, clock: Clock, reloads: list[Reload]) -> Store:
    """The store as the flags want it encrypted. Raises OSError, ValueError."""
    if not flags.encryption_provider_config:
        return store
    path = Path(flags.encryption_provider_config)
    text = path.read_bytes()
    wrapped = EncryptedStore(store, encryption.parse(text))

    def take(changed: bytes) -> None:
        wrapped.rules = encryption.parse(changed)

    if flags.encryption_provider_config_automatic_reload:
        reloads.append(Reload("encryption", path, text, take, clock))
    return wrapped


def follow(server: ApiServer, flags: SecurityFlags, clock: Clock, reloads: list[Reload]) -> None:
    """Add what follows the files of authentication and authorization. Raises OSError."""
    own_issuers = (flags.service_account_issuer,)
    if flags.authentication_config:
        path = Path(flags.authentication_config)
        reloads.append(
            Reload(
                "authentication",
                path,
                path.read_bytes(),
                lambda text: server.authenticators.configure(authentication.parse(text, own_issuers)),
                clock,
            )
        )
    if flags.authorization_config:
        path = Path(flags.authorization_config)
        reloads.append(
            Reload(
                "authorization",
                path,
                path.read_bytes(),
                lambda text: server.authorizers.configure(authorization.parse(text), server.webhooks, clock),
                clock,
            )
        )


def _authentication(flags: SecurityFlags) -> authentication.Configuration:
    own_issuers = (flags.service_account_issuer,)
    if not flags.authentication_config:
        pairs = [pair.partition("=") for pair in filter(None, flags.oidc_required_claim.split(","))]
        return authentication.of_flags(
            OidcFlags(
                flags.oidc_issuer_url,
                flags.oidc_client_id,
                flags.oidc_username_claim,
                flags.oidc_username_prefix,
                flags.oidc_groups_claim,
                flags.oidc_groups_prefix,
                _read(flags.oidc_ca_file).decode(),
                tuple((key, value) for key, _, value in pairs),
            ),
            own_issuers,
        )
    if flags.oidc_issuer_url:
        raise ValueError("--authentication-config and --oidc-issuer-url exclude each other")
    return authentication.parse(_read(flags.authentication_config), own_issuers)


def _algorithms(flags: SecurityFlags) -> tuple[str, ...]:
    if not flags.oidc_issuer_url:
        return jwt_tokens.ALGORITHMS
    algorithms = tuple(filter(None, flags.oidc_signing_algs.split(",")))
    for algorithm in algorithms:
        if algorithm not in jwt_tokens.ALGORITHMS:
            raise ValueError(
                f"--oidc-signing-algs: expected some of {', '.join(jwt_tokens.ALGORITHMS)}, found {algorithm}"
            )
    return algorithms


def _token_webhook(flags: SecurityFlags) -> WebhookTokenOptions | None:
    if not flags.authentication_token_webhook_config_file:
        return None
    version = flags.authentication_token_webhook_version
    if version not in ("v1", "v1beta1"):
        raise ValueError(f"--authentication-token-webhook-version: expected v1 or v1beta1, found {version}")
    access = kubeconfig.load(flags.authentication_token_webhook_config_file)
    return WebhookTokenOptions(access, flags.authentication_token_webhook_cache_ttl, version)


def _authorization(flags: SecurityFlags) -> tuple[authorization.Entry, ...]:
    if flags.authorization_config:
        return authorization.parse(_read(flags.authorization_config))
    webhook = None
    if flags.authorization_webhook_config_file:
        webhook = WebhookOptions(
            "webhook",
            kubeconfig.load(flags.authorization_webhook_config_file),
            flags.authorization_webhook_cache_authorized_ttl,
            flags.authorization_webhook_cache_unauthorized_ttl,
            version=flags.authorization_webhook_version,
        )
    return authorization.of_modes(tuple(filter(None, flags.authorization_mode.split(","))), webhook)


def _read(path: str) -> bytes:
    return Path(path).read_bytes() if path else b""


def audit_options(options: SecurityFlags) -> AuditOptions:
    """What audit needs of the flags. Raises OSError, ValueError."""
    if options.audit_log_mode not in ("blocking", "blocking-strict", "batch"):
        raise ValueError(f"--audit-log-mode: expected blocking, blocking-strict or batch, not {options.audit_log_mode}")
    if options.audit_webhook_mode != "batch":
        raise ValueError(f"--audit-webhook-mode: only batch is supported, not {options.audit_webhook_mode}")
    log_batch = BatchOptions(
        options.audit_log_batch_buffer_size,
        options.audit_log_batch_max_size,
        wait=options.audit_log_batch_max_wait,
        rate=0.0,
    )
    return AuditOptions(
        policy=_read(options.audit_policy_file),
        log=LogOptions(
            options.audit_log_path,
            options.audit_log_maxage,
            options.audit_log_maxbackup,
            options.audit_log_maxsize,
            strict=options.audit_log_mode == "blocking-strict",
        ),
        log_batch=log_batch if options.audit_log_mode == "batch" else None,
        log_truncate=options.audit_log_truncate_max_event_size if options.audit_log_truncate_enabled else 0,
        webhook=kubeconfig.load(options.audit_webhook_config_file) if options.audit_webhook_config_file else None,
        webhook_batch=BatchOptions(
            options.audit_webhook_batch_buffer_size,
            options.audit_webhook_batch_max_size,
            options.audit_webhook_truncate_max_batch_size,
            options.audit_webhook_batch_max_wait,
            options.audit_webhook_batch_throttle_qps,
            options.audit_webhook_batch_throttle_burst,
        ),
        webhook_backoff=options.audit_webhook_initial_backoff,
        webhook_truncate=options.audit_webhook_truncate_max_event_size if options.audit_webhook_truncate_enabled else 0,
    )
