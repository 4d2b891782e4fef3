"""The API server's composition root: flags to objects, one TaskGroup, until cancelled.

Started by `kybern apiserver`. See apiserver/server for what is built.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import structlog

from kybern.apiserver.audit.batch import BatchOptions
from kybern.apiserver.audit.build import AuditOptions
from kybern.apiserver.audit.log_file import LogOptions
from kybern.apiserver.encryption import configuration as encryption_configuration
from kybern.apiserver.encryption.reload import Reload
from kybern.apiserver.encryption.store import EncryptedStore
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.request import Request
from kybern.apiserver.server import ApiServer
from kybern.client import kubeconfig
from kybern.client.clock import RealClock
from kybern.machinery.clock import Clock
from kybern.storage.etcd import Endpoints, EtcdStore
from kybern.storage.interface import Store
from kybern.storage.memory import MemoryStore
from kybern.storage.sqlite import SqliteStore
from kybern.wire import tls
from kybern.wire.http1.server import serve

log = structlog.get_logger(__name__)

SCRUB_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of kube-apiserver that have a meaning here; files are PEM."""

    bind_address: str = "0.0.0.0"
    secure_port: int = 6443
    advertise_address: str = "127.0.0.1"
    store: str = "memory"  # "memory", or the path of a SQLite file; etcd_servers go before it
    etcd_servers: str = ""  # https://host:2379,...
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: str = "front-proxy-client"
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_certificate_authority: str = ""
    token_auth_file: str = ""
    service_account_key_file: str = ""
    service_account_signing_key_file: str = ""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    service_cluster_ip_range: str = "10.96.0.0/12"
    service_node_port_range: str = "30000-32767"
    runtime_config: str = ""  # api/alpha=true, resource.k8s.io/v1alpha3=true, ...
    event_ttl: float = 3600.0  # seconds
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
    seed: int | None = None  # of the dice, for tests


def _read(path: str) -> bytes:
    return Path(path).read_bytes() if path else b""


def server_options(options: Options) -> ServerOptions:
    """What the server needs of the flags, files read. Raises OSError, ValueError."""
    first, _, last = options.service_node_port_range.partition("-")
    return ServerOptions(
        advertise_address=options.advertise_address,
        secure_port=options.secure_port,
        client_ca=_read(options.client_ca_file),
        front_proxy_ca=_read(options.requestheader_client_ca_file),
        front_proxy_names=tuple(filter(None, options.requestheader_allowed_names.split(","))),
        kubelet_client_certificate=options.kubelet_client_certificate,
        kubelet_client_key=options.kubelet_client_key,
        kubelet_ca=options.kubelet_certificate_authority,
        static_tokens=_read(options.token_auth_file).decode(),
        service_account_public_key=_read(options.service_account_key_file),
        service_account_signing_key=_read(options.service_account_signing_key_file),
        service_account_issuer=options.service_account_issuer,
        service_cidr=options.service_cluster_ip_range,
        node_port_range=(int(first), int(last)),
        runtime_config=options.runtime_config,
        event_ttl=options.event_ttl,
        audit=audit_options(options),
    )


def audit_options(options: Options) -> AuditOptions:
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


async def open_store(options: Options) -> Store:
    """The store that the flags name. Raises StoreError, OSError, ValueError."""
    if options.etcd_servers:
        files = (options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile)
        return await EtcdStore.open(Endpoints.parse(options.etcd_servers, *files))
    if options.store == "memory":
        return MemoryStore()
    return await SqliteStore.open(Path(options.store))


def encrypted(store: Store, options: Options, clock: Clock) -> tuple[Store, Reload | None]:
    """The store as the flags want it encrypted, and what follows the file of keys. Raises OSError, ValueError."""
    if not options.encryption_provider_config:
        return store, None
    path = Path(options.encryption_provider_config)
    text = path.read_bytes()
    wrapped = EncryptedStore(store, encryption_configuration.parse(text))
    is_followed = options.encryption_provider_config_automatic_reload
    return wrapped, Reload(path, text, wrapped, clock) if is_followed else None


async def scrub(store: SqliteStore, clock: Clock) -> None:
    """Look for rows that have gone bad on the disk, every hour; a fault is an error in the log for a person to see."""
    while True:
        await clock.sleep(SCRUB_SECONDS)
        found = await store.scrub()
        for fault in found.faults:
            log.error("a row of the store is damaged: restore a backup", fault=str(fault))


async def run(options: Options) -> None:
    """Serve until cancelled; then finish what is under way and close the store."""
    clock = RealClock()
    store = await open_store(options)
    # Names and uids need no secrets, only no repeats: a generator seeded by the system is ten times quicker.
    rng = random.Random(options.seed if options.seed is not None else random.SystemRandom().getrandbits(256))
    try:
        encrypting, reload = encrypted(store, options, clock)
        server = ApiServer(server_options(options), encrypting, clock, rng)
        async with asyncio.TaskGroup() as tasks:
            await server.start(tasks)
            if reload is not None:
                tasks.create_task(reload.run(), name="encryption configuration")
            if isinstance(store, SqliteStore):
                tasks.create_task(scrub(store, clock), name="store scrub")
            pair = tls.KeyPair(Path(options.tls_cert_file), Path(options.tls_private_key_file))
            authorities = tuple(Path(f) for f in (options.client_ca_file, options.requestheader_client_ca_file) if f)
            context = tls.server_context(pair, authorities)
            tasks.create_task(tls.Renewal(context, pair).run(clock), name="certificate renewal")
            listener = await serve(
                server.application,
                request_type=Request,
                tasks=tasks,
                clock=clock,
                host=options.bind_address,
                port=options.secure_port,
                ssl_context=context,
            )
            log.info("serving", address=options.bind_address, port=listener.port)
            try:
                await asyncio.Event().wait()
            finally:
                server.drain()
                await listener.close()
    finally:
        await store.close()
