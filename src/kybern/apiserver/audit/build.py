"""Put audit together from the flags: policy, sinks, and the tasks they need. Called once by apiserver/server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from kybern.apiserver.audit.batch import Batch, BatchOptions, Deliver
from kybern.apiserver.audit.log_file import LogFile, LogOptions
from kybern.apiserver.audit.policy import Policy
from kybern.apiserver.audit.record import Auditor
from kybern.apiserver.audit.sinks import Event, Sink, Truncating
from kybern.apiserver.audit.webhook import Webhook
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.client.kubeconfig import Access
from kybern.machinery.clock import Clock

# Seconds that an audit webhook has for a batch, and that the last batches have when the server ends.
WEBHOOK_TIMEOUT = 30.0
FLUSH_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """Flags --audit-*; files read."""

    policy: bytes = b""  # b"": no audit
    log: LogOptions = field(default_factory=LogOptions)
    log_batch: BatchOptions | None = None  # None: every event is written at once
    log_truncate: int = 0  # bytes of an event; 0: never
    webhook: Access | None = None
    webhook_batch: BatchOptions = field(default_factory=BatchOptions)
    webhook_backoff: float = 10.0
    webhook_truncate: int = 0


class Audit:
    """The auditor, and what runs beside the requests."""

    def __init__(self, auditor: Auditor, log_file: LogFile | None, batches: Sequence[Batch]) -> None:
        self.auditor = auditor
        self._log_file = log_file
        self._batches = batches

    async def run(self) -> None:
        """Until cancelled; then what waits is handed on, if it can be soon."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, batch in enumerate(self._batches):
                    tasks.create_task(batch.run(), name=f"audit batch {number}")
                await asyncio.Event().wait()
        finally:
            try:
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    for batch in self._batches:
                        await batch.flush()
            except TimeoutError:
                pass  # a webhook that does not answer now
            if self._log_file is not None:
                self._log_file.close()


def build(options: AuditOptions, webhooks: WebhookClient, clock: Clock, rng: random.Random) -> Audit | None:
    """None without a policy or without anywhere to write to. Raises ValueError for a policy that is wrong."""
    if not options.policy:
        return None
    policy = Policy(options.policy)
    sinks: list[Sink] = []
    batches: list[Batch] = []
    log_file = None
    if options.log.path:
        log_file = LogFile(options.log, clock)
        sink: Sink = log_file
        if options.log_batch is not None:
            sink = Batch("log", options.log_batch, _writer(log_file), clock)
            batches.append(sink)
        sinks.append(Truncating(sink, options.log_truncate) if options.log_truncate else sink)
    if options.webhook is not None:
        access = options.webhook

        async def post(body: bytes) -> bytes:
            return await webhooks.call_server(access, body, WEBHOOK_TIMEOUT)

        webhook = Webhook(post, (CallFailed,), clock, rng, options.webhook_backoff)
        batch = Batch("webhook", options.webhook_batch, webhook.deliver, clock)
        batches.append(batch)
        sinks.append(Truncating(batch, options.webhook_truncate) if options.webhook_truncate else batch)
    return Audit(Auditor(policy, sinks, clock), log_file, batches) if sinks else None


def _writer(log_file: LogFile) -> Deliver:
    async def write(events: Sequence[Event]) -> None:
        await asyncio.to_thread(log_file.put_all, events)

    return write
