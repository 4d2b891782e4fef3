"""The API server put together: store, caches, registry, gates and paths.

Built by process/apiserver (and by testing, on a memory store). `application` answers requests; `start` loads the
store, makes what every cluster has, and keeps the server's own tasks running in the caller's TaskGroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Awaitable
from typing import Any

import structlog

from kybern.api.core_v1 import Namespace
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.resource import Resource
from kybern.apiserver import health as health_checks
from kybern.apiserver import paths, scrape, scrape_control, upkeep
from kybern.apiserver.admission import Attributes, bootstrap_objects, built_in, configured
from kybern.apiserver.admission.chain import Chain
from kybern.apiserver.admission.pod_security import PodSecurity
from kybern.apiserver.admission.policies import type_checking
from kybern.apiserver.admission.python_policies import Policies
from kybern.apiserver.admission.timings import Timings
from kybern.apiserver.aggregator.backend import Options as AggregatorOptions
from kybern.apiserver.aggregator.backend import Wire
from kybern.apiserver.aggregator.reconcile import ROUND_SECONDS, Aggregator
from kybern.apiserver.audit import build as build_audit
from kybern.apiserver.authenticate import impersonate, legacy_use
from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.authorize import attributes as authorize_attributes
from kybern.apiserver.authorize import bootstrap_roles, selectors
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.custom_resources import definition
from kybern.apiserver.custom_resources.lifecycle import Lifecycle
from kybern.apiserver.custom_resources.serving import CustomResources
from kybern.apiserver.discovery.serve import rows_of
from kybern.apiserver.flow_control import debug as flow_debug
from kybern.apiserver.flow_control import numbers as flow_numbers
from kybern.apiserver.flow_control import upkeep as flow_upkeep
from kybern.apiserver.flow_control.control import FlowControl
from kybern.apiserver.flow_control.turns import Turns
from kybern.apiserver.freshness import Freshness
from kybern.apiserver.handlers import subresources
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.forms import Forms
from kybern.apiserver.health import ServerHealth
from kybern.apiserver.limits import InFlight, Limits, Seating
from kybern.apiserver.metrics import Metrics
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.pipeline import Pipeline, Step
from kybern.apiserver.registry import registry as registry_module
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.registry.strategies.services import Services
from kybern.apiserver.request import Request
from kybern.apiserver.slices import Slices
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.webhooks.client import WebhookClient
from kybern.apiserver.webhooks.transport import Exchanger
from kybern.machinery import fields, runtime_config
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.storage.compactor import Compactor
from kybern.storage.interface import Store

log = structlog.get_logger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class _Gate:
    """The admission chain, which is made after the registry because its plugins read from it."""

    chain = Chain(())

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        return self.chain.admit(attributes)

    def mutate(self, attributes: Attributes) -> Awaitable[None] | None:
        return self.chain.mutate(attributes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        return self.chain.validate(attributes)


class ApiServer:
    """One API server over one store."""

    def __init__(
        self,
        options: ServerOptions,
        store: Store,
        clock: Clock,
        rng: random.Random,
        webhooks: Exchanger | None = None,  # how webhooks are reached, if not by TLS
        backends: Wire | None = None,  # how the servers behind APIServices are
        policies: Policies | None = None,  # Python functions that are asked about writes
    ) -> None:
        self.options = options
        self.clock = clock
        self.feed = Feed(store)
        self.metrics = Metrics()
        self.gate = _Gate()
        self.registry: Registry = registry_module.build(
            self.feed,
            self.gate,
            clock,
            rng,
            runtime_config.parse(options.runtime_config),
            options.service_cidr,
            options.node_port_range,
            options.gates,
        )
        objects = self.registry.objects
        self.webhooks = WebhookClient(objects, webhooks)
        self.custom_resources = CustomResources(self.registry, self.feed, self.gate, clock, rng, self.webhooks)
        self.authorizers = Authorizers(objects)
        self.authorizers.configure(options.authorization, self.webhooks, clock)
        users = configured.plugins(self.registry, self.webhooks, self.authorizers, rng, policies, self.metrics.registry)
        plugins = built_in.plugins(objects, objects, self.authorizers, clock, rng, users)
        self.gate.chain = Chain(plugins, Timings(self.metrics.registry))
        self.authenticators = Authenticators(_authentication(options), objects, clock, self.webhooks)
        self.handlers = Handlers(
            self.registry, self.feed, clock, rng, self.gate.admit, Forms(clock), self._authorize_as
        )
        subresources.install(self.handlers, options, self.authenticators, self.authorizers)
        self.health = ServerHealth(lambda: self.feed.synced, self.metrics.slis, clock.now().timestamp())
        self.aggregator = Aggregator(
            objects,
            clock,
            random.Random(rng.getrandbits(64)),
            AggregatorOptions(options.proxy_client_certificate, options.proxy_client_key, options.aggregator_routing),
            lambda: sorted({(r.group, r.version) for r in rows_of(self.registry) if r.module}),
            backends,
        )
        # Who asks is known before it is audited; for whom they act is part of what is audited.
        self.audit = build_audit.build(options.audit, self.webhooks, clock, rng)
        self.auditor = self.audit.auditor if self.audit is not None else None
        first: tuple[Step, ...] = (self._authenticate, self._impersonate)
        if self.auditor is not None:
            first = (self._authenticate_audited, self.auditor.receive, self._impersonate)
        self.flow_control = _flow_control(options, self.registry, clock)
        seating: Seating = self.flow_control or InFlight(
            options.max_requests_inflight, options.max_mutating_requests_inflight
        )
        served = paths.build(
            options,
            self.registry,
            self.feed,
            self.authenticators.keys,
            self.metrics,
            self.health,
            clock,
            lambda: self.aggregator.offered,
        )
        self.metrics.paths = frozenset(served.exact)
        self.metrics.resource_of = self._custom_resource
        if self.flow_control is not None:
            served.exact.update(flow_debug.paths(self.flow_control))
            flow_numbers.register(self.metrics.registry, self.flow_control)
        self.slices = Slices(clock.monotonic, self.flow_control.turns if self.flow_control is not None else Turns())
        self.application = Pipeline(
            (*first, seating, self._authorize, *((Freshness(self.feed),) if store.is_shared else ())),
            self.handlers,
            served,
            self.metrics,
            random.Random(rng.getrandbits(64)),  # audit ids need no entropy of the system's
            Limits(seating, options.request_timeout),
            self.slices,
            self.aggregator,
        )
        scrape.register(self.metrics.registry, self.registry.objects)
        scrape.register_audit(self.metrics.registry, self.auditor)
        scrape_control.register(
            self.metrics.registry, objects, options.gates, self.authorizers, self.metrics.allowed_by
        )
        for plugin in plugins:
            if isinstance(plugin, PodSecurity):
                scrape_control.register_pod_security(self.metrics.registry, plugin.evaluations)
        services = objects.stores["services"].strategy
        if isinstance(services, Services):
            scrape_control.register_services(self.metrics.registry, services)
        scrape_control.register_expressions(self.metrics.registry)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load the store, make what every cluster has, start the upkeep."""
        done = self.health.hooks.done
        await self.feed.load()
        tasks.create_task(self.feed.run(), name="watch cache feed")
        done(*health_checks.CACHES)
        if self.audit is not None:
            tasks.create_task(self.audit.run(), name="audit")
        self.custom_resources.start(tasks)
        lifecycle = Lifecycle(self.registry, self.clock, definition.schema_faults, self.slices)
        tasks.create_task(lifecycle.run(), name="custom resource definitions")
        checks = type_checking.Checks(self.registry, self.clock, self.slices)
        tasks.create_task(checks.run(), name="type checking of policies")
        done(*health_checks.DEFINITIONS)
        await self._bootstrap()
        done(*health_checks.OBJECTS)
        own = upkeep.OwnService(
            self.registry.objects, self.options.service_cidr, self.options.advertise_address, self.options.secure_port
        )
        await upkeep.attempt("kubernetes service", own)
        done(*health_checks.SERVICE)
        await self.aggregator.start()
        done(*health_checks.AGGREGATION)
        sweeper = upkeep.EventSweeper(self.registry.objects, self.clock, self.options.event_ttl)
        for name, seconds, work in (
            ("bookmarks", upkeep.BOOKMARK_SECONDS, self._bookmark),
            ("event ttl", upkeep.EVENT_SWEEP_SECONDS, sweeper),
            ("kubernetes service", upkeep.SERVICE_SECONDS, own),
            ("service addresses", upkeep.ADDRESS_SECONDS, self._tidy_addresses),
            ("legacy token use", legacy_use.SECONDS, self._write_legacy_use),
            ("aggregation", ROUND_SECONDS, self.aggregator),
        ):
            tasks.create_task(upkeep.forever(name, seconds, self.clock, work), name=f"upkeep: {name}")
        if self.flow_control is not None:
            keeper = flow_upkeep.Upkeep(self.flow_control, self.registry.objects, self.clock)
            await keeper.maintain()
            await keeper.tell()
            tasks.create_task(keeper.run(), name="upkeep: priority and fairness")
        tasks.create_task(Compactor(self.feed.store, self.clock).run(), name="upkeep: compaction")
        done(*health_checks.FAIRNESS)
        self.health.ask_all()

    def begin_shutdown(self) -> None:
        """Say not ready, so that nobody sends more; what comes is served as before."""
        self.health.is_shutting_down = True

    def refuse_new(self) -> None:
        """With --shutdown-send-retry-after: from now on requests are told to try again, elsewhere."""
        if self.options.shutdown_send_retry_after:
            self.application.refuse_new()

    def _custom_resource(self, group: str, version: str, plural: str) -> Resource | None:
        served = self.registry.get(group, version, plural)
        return served.resource if served is not None else None

    # -- steps of the pipeline -----------------------------------------------------------------------------------

    def _authenticate(self, request: Request) -> None:
        try:
            request.user = self.authenticators.authenticate(request)
        except ApiError:
            self.metrics.unauthenticated["error" if "authorization" in request.headers else "failure"] += 1
            raise
        self.metrics.authenticated += 1

    def _authenticate_audited(self, request: Request) -> None:
        try:
            self._authenticate(request)
        except ApiError:
            assert self.auditor is not None
            self.auditor.refuse(request)
            raise

    def _impersonate(self, request: Request) -> None:
        impersonate.impersonate(request, self.authorizers)

    def _authorize(self, request: Request) -> None:
        info = request.info
        if "fieldSelector" in request.query and info.verb in selectors.VERBS:
            try:
                selected = fields.parse_selector(request.flag("fieldSelector")).requirements
            except ValueError:
                selected = ()  # the handler answers 400; until then it opens nothing
            attributes = authorize_attributes.of_request(info, selected)
        else:
            attributes = info.findings.attributes
            if attributes is None:
                attributes = info.findings.attributes = authorize_attributes.of_request(info)
        if self.authorizers.reads_labels and "labelSelector" in request.query and info.verb in selectors.VERBS:
            with contextlib.suppress(ValueError):  # as above
                of_labels = selectors.labels_of(request.flag("labelSelector"))
                attributes = dataclasses.replace(attributes, labels=of_labels)
        decision = self.authorizers.authorize(request.user, attributes)
        if request.audit is not None:
            request.audit.annotate("authorization.k8s.io/decision", "allow" if decision.allowed else "forbid")
            request.audit.annotate("authorization.k8s.io/reason", decision.reason)
        if not decision.allowed:
            self.metrics.refused += 1
            raise authorize_attributes.forbidden(request.user, attributes, decision.reason)
        counts = self.metrics
        counts.allowed += 1
        counts.allowed_by[decision.authorizer] = counts.allowed_by.get(decision.authorizer, 0) + 1

    def _authorize_as(self, request: Request, verb: str) -> None:
        info = dataclasses.replace(request.info, verb=verb)
        self.authorizers.require(request.user, authorize_attributes.of_request(info))

    # -- start ---------------------------------------------------------------------------------------------------

    async def _bootstrap(self) -> None:
        objects = self.registry.objects
        for name in SYSTEM_NAMESPACES:
            if objects.get("namespaces", "", name) is None:
                await self._create("namespaces", Namespace(metadata=ObjectMeta(name=name)))
        existing: list[Any] = []
        group = bootstrap_roles.GROUP
        for plural in ("clusterroles", "clusterrolebindings", "roles", "rolebindings"):
            existing += objects.list(f"{plural}.{group}")
        plan = bootstrap_roles.plan_bootstrap(existing)
        async with asyncio.TaskGroup() as tasks:
            for obj in plan.create:
                tasks.create_task(self._create(_plural(obj), obj), name=f"bootstrap {obj.metadata.name}")
            for obj in plan.update:
                tasks.create_task(objects.update(_plural(obj), obj), name=f"bootstrap {obj.metadata.name}")
            for obj in built_in.system_objects(objects):
                tasks.create_task(self._create(_plural(obj), obj), name=f"bootstrap {obj.metadata.name}")
        options = self.options
        told = bootstrap_objects.plan_authentication(
            objects, options.client_ca, options.front_proxy_ca, options.front_proxy_names
        )
        if told is not None and told.metadata.resourceVersion:
            await objects.update("configmaps", told)
        elif told is not None:
            await self._create("configmaps", told)

    async def _create(self, resource: str, obj: Any) -> None:
        """Another server over the same store may be faster."""
        try:
            await self.registry.objects.create(resource, obj)
        except ApiError as error:
            if not error.is_already_exists:
                raise

    async def _write_legacy_use(self) -> None:
        await self.authenticators.legacy_use.write(self.registry.objects)

    async def _tidy_addresses(self) -> None:
        services = self.registry.objects.stores["services"].strategy
        assert isinstance(services, Services)
        await services.addresses.tidy()

    async def _bookmark(self) -> None:
        await self.feed.bookmark_all()


def _flow_control(options: ServerOptions, registry: Registry, clock: Clock) -> FlowControl | None:
    if not options.enable_priority_and_fairness:
        return None
    total = options.max_requests_inflight + options.max_mutating_requests_inflight
    return FlowControl(registry, clock, total, options.request_timeout)


def _plural(obj: Any) -> str:
    from kybern.machinery import scheme

    resource = scheme.kind_of(obj.apiVersion, obj.kind)
    assert resource is not None, obj.kind
    return resource.group_resource


def _authentication(options: ServerOptions) -> AuthenticationOptions:
    return AuthenticationOptions(
        client_ca=options.client_ca,
        front_proxy_ca=options.front_proxy_ca,
        front_proxy_names=options.front_proxy_names,
        static_tokens=options.static_tokens,
        service_account_keys=tuple(filter(None, (options.service_account_public_key,))),
        issuers=(options.service_account_issuer,),
        audiences=(options.service_account_issuer,),
        configuration=options.authentication,
        jwt_algorithms=options.jwt_algorithms,
        token_webhook=options.token_webhook,
    )
