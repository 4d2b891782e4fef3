"""The API server's composition root: flags to objects, one TaskGroup, until cancelled.

Started by `kybern apiserver`. See apiserver/server for what is built.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import random
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from kybern.apiserver import upkeep
from kybern.apiserver.encryption.store import EncryptedStore, Undecryptable
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.reload import Reload
from kybern.apiserver.request import Request
from kybern.apiserver.server import ApiServer
from kybern.client.clock import RealClock
from kybern.machinery import feature_gates, metrics
from kybern.machinery.clock import Clock
from kybern.policies.pool import WorkerPool
from kybern.process import apiserver_security as security
from kybern.process.apiserver_security import SecurityFlags
from kybern.storage.etcd import Endpoints, EtcdStore
from kybern.storage.interface import Store
from kybern.storage.memory import MemoryStore
from kybern.storage.sqlite import SqliteStore
from kybern.wire import tls
from kybern.wire.http1.server import Server, serve

log = structlog.get_logger(__name__)

SCRUB_SECONDS = 3600.0
MOST_FILES = 65_536  # three for each connection that wire/http1 takes
POLICY_SECONDS = 2.0  # between two looks at the files of policies


@dataclass(frozen=True, slots=True)
class Options(SecurityFlags):
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
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    enable_aggregator_routing: bool = False
    token_auth_file: str = ""
    service_account_key_file: str = ""
    service_account_signing_key_file: str = ""
    service_cluster_ip_range: str = "10.96.0.0/12"
    service_node_port_range: str = "30000-32767"
    runtime_config: str = ""  # api/alpha=true, resource.k8s.io/v1alpha3=true, ...
    feature_gates: str = ""  # ClusterTrustBundleProjection=true, PodCertificateRequest=true
    event_ttl: float = 3600.0  # seconds
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    request_timeout: float = 60.0  # seconds
    shutdown_delay_duration: float = 0.0  # seconds in which all is served and only /readyz fails
    shutdown_send_retry_after: bool = False  # late requests get a 429, while those under way are finished
    admission_policy_dir: str = ""  # folder of Python policies, see docs/policies.md
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
        proxy_client_certificate=options.proxy_client_cert_file,
        proxy_client_key=options.proxy_client_key_file,
        aggregator_routing=options.enable_aggregator_routing,
        static_tokens=_read(options.token_auth_file).decode(),
        service_account_public_key=_read(options.service_account_key_file),
        service_account_signing_key=_read(options.service_account_signing_key_file),
        service_account_issuer=options.service_account_issuer,
        service_cidr=options.service_cluster_ip_range,
        node_port_range=(int(first), int(last)),
        runtime_config=options.runtime_config,
        gates=feature_gates.parse(options.feature_gates),
        event_ttl=options.event_ttl,
        **security.server_options(options),
        enable_priority_and_fairness=options.enable_priority_and_fairness,
        max_requests_inflight=options.max_requests_inflight,
        max_mutating_requests_inflight=options.max_mutating_requests_inflight,
        request_timeout=options.request_timeout,
        shutdown_send_retry_after=options.shutdown_send_retry_after,
        flags=dataclasses.asdict(options),
    )


async def open_store(options: Options) -> Store:
    """The store that the flags name. Raises StoreError, OSError, ValueError."""
    if options.etcd_servers:
        files = (options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile)
        return await EtcdStore.open(Endpoints.parse(options.etcd_servers, *files))
    if options.store == "memory":
        return MemoryStore()
    return await SqliteStore.open(Path(options.store))


async def scrub(store: SqliteStore, clock: Clock) -> None:
    """Look for rows that have gone bad on the disk, every hour; a fault is an error in the log for a person to see."""
    while True:
        await clock.sleep(SCRUB_SECONDS)
        found = await store.scrub()
        for fault in found.faults:
            log.error("a row of the store is damaged: restore a backup", fault=str(fault))


def add_store_size(registry: metrics.Registry, store: Path) -> None:
    """Upstream's metric, for the file and its log."""

    def read() -> metrics.Samples:
        files = [file for file in (store, store.with_name(f"{store.name}-wal")) if file.exists()]
        return [(("sqlite-0",), sum(file.stat().st_size for file in files))]

    text = "[STABLE] Size of the storage database file physically allocated in bytes."
    registry.read("gauge", "apiserver_storage_size_bytes", text, ("storage_cluster_id",), read)


def add_reloads(registry: metrics.Registry, reloads: Sequence[Reload]) -> None:
    """How often the files of configuration were loaded anew, or were not to be loaded."""
    for reload in reloads:
        registry.read(
            "counter",
            f"apiserver_{reload.what}_config_controller_automatic_reloads_total",
            f"[ALPHA] Total number of automatic reloads of {reload.what} configuration split by status and apiserver "
            "identity.",
            ("apiserver_id_hash", "status"),
            lambda reload=reload: [(("", status), number) for status, number in reload.results.items()],  # type: ignore[misc]
        )


def add_transformations(registry: metrics.Registry, store: EncryptedStore) -> None:
    registry.read(
        "counter",
        "apiserver_storage_transformation_operations_total",
        "[ALPHA] Total number of transformations. Successful transformation will have a status 'OK' and a varied "
        "status string when the transformation fails. The status, resource, and transformation_type fields can be used "
        "for alerting purposes.",
        ("resource", "status", "transformation_type", "transformer_prefix"),
        lambda: list(store.operations.items()),
    )


async def start(server: ApiServer, tasks: asyncio.TaskGroup) -> None:
    """Start, or end the process with one sentence where its keys do not fit the store."""
    try:
        await server.start(tasks)
    except Undecryptable as error:
        log.critical("the store cannot be read", error=str(error))
        raise SystemExit(1) from None


async def shut_down(server: ApiServer, listener: Server[Request], options: Options, clock: Clock) -> None:
    """End in the documented order: not ready, nothing new, what is under way, streams. The store is closed last."""
    server.begin_shutdown()
    await clock.sleep(options.shutdown_delay_duration)
    server.refuse_new()
    await listener.close(options.request_timeout, listen=options.shutdown_send_retry_after)


def _raise_file_limit() -> None:
    """Each client is an open file, and shells get few: have as many as we may, and can use."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _settle_memory() -> None:
    """What was loaded at start stays, and requests leave few cycles: looking for them less often saves time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    # What reading the store took for a while goes back to the system: a tenth of all that is in memory.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have nothing to give back
    if trim is not None:
        trim(0)


async def run(options: Options) -> None:
    """Serve until cancelled; then finish what is under way and close the store."""
    clock = RealClock()
    _raise_file_limit()
    gc.disable()  # until all is loaded: nothing of it is garbage, and looking through it takes a tenth of the time
    store = await open_store(options)
    # Names and uids need no secrets, only no repeats: a generator seeded by the system is ten times quicker.
    rng = random.Random(options.seed if options.seed is not None else random.SystemRandom().getrandbits(256))
    policies: WorkerPool | None = None
    try:
        reloads: list[Reload] = []
        if options.admission_policy_dir:
            policies = await WorkerPool.start(Path(options.admission_policy_dir))
            log.info("policies loaded", count=policies.count, folder=options.admission_policy_dir)
        encrypting = security.encrypted(store, options, clock, reloads)
        server = ApiServer(server_options(options), encrypting, clock, rng, policies=policies)
        security.follow(server, options, clock, reloads)
        add_reloads(server.metrics.registry, reloads)
        if isinstance(encrypting, EncryptedStore):
            add_transformations(server.metrics.registry, encrypting)
        async with asyncio.TaskGroup() as tasks:
            await start(server, tasks)
            _settle_memory()
            for number, reload in enumerate(reloads):
                tasks.create_task(reload.run(), name=f"configuration file {number}")
            if policies is not None:
                work = policies.reload_if_changed
                tasks.create_task(upkeep.forever("policies", POLICY_SECONDS, clock, work), name="policies")
            if isinstance(store, SqliteStore):
                tasks.create_task(scrub(store, clock), name="store scrub")
                add_store_size(server.metrics.registry, Path(options.store))
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
                await shut_down(server, listener, options, clock)
    finally:
        gc.enable()
        if policies is not None:
            await policies.close()
        await store.close()
