"""One request's audit events, from its reception to the end of its answer.

Made by Auditor in the pipeline's audit step, kept in `request.audit`, ended by the pipeline with the answer; authorize,
impersonation and admission annotate it. Promises: each stage that the policy wants is told once; an event is one line
of JSON, whatever clients send.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from kybern.apiserver.audit import objects
from kybern.apiserver.audit.policy import COMPLETE, LEVEL_NAMES, PANIC, RECEIVED, STARTED, Level, Policy, Scope
from kybern.apiserver.audit.sinks import Event, Sink
from kybern.apiserver.request import Answer, Request, RequestInfo, Response, Resting, StreamResponse, User
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

# Longer user agents are cut: clients choose them.
MAX_USER_AGENT = 1024
# Annotations of a request, and characters of one: policies and webhooks choose them.
MAX_ANNOTATIONS = 256
_LONG_SUBRESOURCES = frozenset({"proxy", "exec", "attach", "portforward", "log"})
_WITH_OBJECT = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Auditor:
    """Starts the record of each request that the policy is interested in."""

    def __init__(self, policy: Policy, sinks: Sequence[Sink], clock: Clock) -> None:
        self.policy = policy
        self.sinks = tuple(sinks)
        self.clock = clock
        self.levels = dict.fromkeys(LEVEL_NAMES.values(), 0)  # requests by level, for metrics
        self.events = 0
        self.rejected = 0  # requests that could not be told of

    def receive(self, request: Request) -> None:
        """The pipeline's step, once it is known who asks. Raises ApiError 500 where audit must not fail and does."""
        record = self._record(request, request.user)
        if record is not None and not record.tell(RECEIVED):
            self.rejected += 1
            raise ApiError.internal("the request could not be written to the audit log")

    def refuse(self, request: Request) -> None:
        """Nobody knows who asked: only the refusal is told."""
        record = self._record(request, User(""))
        if record is not None:
            record.is_refused = True

    def emit(self, event: Event) -> bool:
        """False where a sink that must not fail has failed."""
        self.events += 1
        is_told = True
        for sink in self.sinks:
            is_told = sink.put(event) and is_told
        return is_told

    def _record(self, request: Request, user: User) -> Record | None:
        scope = self.policy.scope_of(user, request.info)
        self.levels[LEVEL_NAMES[scope.level]] += 1
        if scope.level is Level.NONE:
            return None
        record = request.audit = Record(self, request, user, scope)
        return record


class Record:
    """The audit of one request."""

    def __init__(self, auditor: Auditor, request: Request, user: User, scope: Scope) -> None:
        self._auditor = auditor
        self._request = request
        self._scope = scope
        self._received = auditor.clock.now()
        self._annotations: dict[str, str] = {}
        self._impersonated: User | None = None
        self._constraint = ""
        self._answered: dict[str, Any] = {}
        self.is_refused = False
        self._user = user
        self._info = request.info

    def annotate(self, key: str, value: str) -> None:
        """The first value of a key stays."""
        if len(self._annotations) < MAX_ANNOTATIONS:
            self._annotations.setdefault(key, value)

    def impersonates(self, user: User, constraint: str = "") -> None:
        """For whom the request acts, and by which kind of permission."""
        self._impersonated = user
        self._constraint = constraint

    def finish(self, answer: Answer) -> Answer:
        """The answer, which tells of its end where it is a stream."""
        if isinstance(answer, Response):
            self._answer(answer)
            if self.is_refused:
                self.tell(STARTED)
                return answer
            if _is_long(self._info):
                self.tell(STARTED)
            self.tell(COMPLETE)
            return answer
        code = answer.status if isinstance(answer, StreamResponse) else 101
        self._answered = {"responseStatus": {"metadata": {}, "code": code}}
        if not (isinstance(answer, StreamResponse) and answer.is_document):
            self.tell(STARTED)
        run: Callable[[Any], Awaitable[Any]] = answer.run

        async def told(stream: Any) -> Any:
            resting: Any = None
            try:
                resting = await run(stream)
                if isinstance(resting, Resting):
                    resting.at_end += (partial(self.tell, COMPLETE),)
            finally:
                if resting is None:
                    self.tell(COMPLETE)
            return resting

        answer.run = told
        return answer

    @property
    def keeps_answer(self) -> bool:
        """Whether the body of the answer goes into the record."""
        return self._scope.level == Level.REQUEST_RESPONSE

    def crash(self, answer: Response) -> Response:
        """The server itself failed."""
        self._answer(answer)
        self.tell(PANIC)
        return answer

    def tell(self, stage: str) -> bool:
        if stage in self._scope.omit_stages:
            return True
        return self._auditor.emit(Event(self._event(stage)))

    def _answer(self, answer: Response) -> None:
        told = objects.status_of(answer)
        self._answered = {"responseStatus": told}
        if self._scope.level < Level.REQUEST or not self._info.is_resource:
            return
        omit = self._scope.omit_managed_fields
        if self._info.verb in _WITH_OBJECT and self._request.body and not _is_long(self._info):
            sent = objects.request_object(self._request, omit)
            if sent is not None:
                self._answered["requestObject"] = sent
        if self._scope.level == Level.REQUEST_RESPONSE and (answer.status >= 400 or not _is_long(self._info)):
            made = objects.response_object(answer, omit)
            if made is not None:
                self._answered["responseObject"] = made

    def _event(self, stage: str) -> dict[str, Any]:
        request = self._request
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": LEVEL_NAMES[self._scope.level],
            "auditID": request.audit_id,
            "stage": stage,
            "requestURI": request.target,
            "verb": self._info.verb,
            "user": _user_info(self._user),
        }
        if self._impersonated is not None:
            event["impersonatedUser"] = _user_info(self._impersonated)
            if self._constraint:
                event["authenticationMetadata"] = {"impersonationConstraint": self._constraint}
        event["sourceIPs"] = _source_ips(request)
        agent = request.headers.get("user-agent", "")
        if agent:
            event["userAgent"] = agent if len(agent) <= MAX_USER_AGENT else agent[:MAX_USER_AGENT] + "...TRUNCATED"
        if self._info.is_resource:
            event["objectRef"] = objects.reference(request, self._info, with_body=stage != RECEIVED)
        if stage != RECEIVED:
            event |= self._answered
        event["requestReceivedTimestamp"] = _micro(self._received)
        event["stageTimestamp"] = _micro(self._received if stage == RECEIVED else self._auditor.clock.now())
        if self._annotations and stage != RECEIVED:
            event["annotations"] = dict(sorted(self._annotations.items()))
        return event


def _is_long(info: RequestInfo) -> bool:
    return info.verb == "watch" or info.subresource in _LONG_SUBRESOURCES


def _user_info(user: User) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if user.name:
        found["username"] = user.name
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = user.groups
    if user.extra:
        found["extra"] = dict(sorted(user.extra.items()))
    return found


def _source_ips(request: Request) -> list[str]:
    """As clients and proxies tell, and last who is really connected."""
    told = [ip.strip() for ip in request.headers.get("x-forwarded-for", "").split(",")]
    told.append(request.headers.get("x-real-ip", "").strip())
    told = [ip for ip in told if objects.is_address(ip)][:64]
    return list(dict.fromkeys((*told, request.peer) if request.peer else told))


def _micro(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
