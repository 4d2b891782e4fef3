"""Authorization checks in expressions: `authorizer.group('apps').resource('deployments').check('create').allowed()`.

The API server binds `authorizer` to `Authorizer(ask)`. Source: "Kubernetes authorizer library" in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from kybern.machinery.cel.functions import Library
from kybern.machinery.cel.values import Opaque

# kube-apiserver: a check may go to a webhook, and costs like a third of one evaluation's limit.
CHECK_COST: Final = 350_000
_PACKAGE: Final = "kubernetes.authorization"

LIBRARY = Library(
    """
    kubernetes.authorization.Authorizer -> path(string): kubernetes.authorization.PathCheck
    kubernetes.authorization.Authorizer -> group(string): kubernetes.authorization.GroupCheck
    kubernetes.authorization.Authorizer -> serviceAccount(string, string): kubernetes.authorization.Authorizer
    kubernetes.authorization.PathCheck -> check(string): kubernetes.authorization.Decision
    kubernetes.authorization.GroupCheck -> resource(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> subresource(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> namespace(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> name(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> fieldSelector(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> labelSelector(string): kubernetes.authorization.ResourceCheck
    kubernetes.authorization.ResourceCheck -> check(string): kubernetes.authorization.Decision
    kubernetes.authorization.Decision -> errored(): bool
    kubernetes.authorization.Decision -> error(): string
    kubernetes.authorization.Decision -> allowed(): bool
    kubernetes.authorization.Decision -> reason(): string
    """
)
_add = LIBRARY.add


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: of a path, or of a resource. `service_account` is (namespace, name) if not for the requester."""

    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    service_account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Question], Answer]


class _Part(Opaque):
    __slots__ = ("ask", "question")

    def __init__(self, ask: Ask, question: Question | None = None) -> None:
        self.ask = ask
        self.question = question or Question()

    def with_(self, kind: type[Any], **more: Any) -> Any:
        return kind(self.ask, replace(self.question, **more))

    def equals(self, other: Any) -> bool:
        return bool(self.question == other.question)


class Authorizer(_Part):
    """The requester's permissions; `ask` answers from memory, at once."""

    __slots__ = ()
    cel_type = f"{_PACKAGE}.Authorizer"


class PathCheck(_Part):
    __slots__ = ()
    cel_type = f"{_PACKAGE}.PathCheck"


class GroupCheck(_Part):
    __slots__ = ()
    cel_type = f"{_PACKAGE}.GroupCheck"


class ResourceCheck(_Part):
    __slots__ = ()
    cel_type = f"{_PACKAGE}.ResourceCheck"


class Decision(Opaque):
    __slots__ = ("answer",)
    cel_type = f"{_PACKAGE}.Decision"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def equals(self, other: Any) -> bool:
        return bool(self.answer == other.answer)


_add("path", Authorizer, str)(lambda a, path: a.with_(PathCheck, path=path))
_add("group", Authorizer, str)(lambda a, group: a.with_(GroupCheck, group=group))
_add("serviceAccount", Authorizer, str, str)(lambda a, ns, name: a.with_(Authorizer, service_account=(ns, name)))
_add("resource", GroupCheck, str)(lambda a, name: a.with_(ResourceCheck, resource=name))
_add("subresource", ResourceCheck, str)(lambda a, name: a.with_(ResourceCheck, subresource=name))
_add("namespace", ResourceCheck, str)(lambda a, name: a.with_(ResourceCheck, namespace=name))
_add("name", ResourceCheck, str)(lambda a, name: a.with_(ResourceCheck, name=name))
_add("fieldSelector", ResourceCheck, str)(lambda a, text: a.with_(ResourceCheck, field_selector=text))
_add("labelSelector", ResourceCheck, str)(lambda a, text: a.with_(ResourceCheck, label_selector=text))


def _check(part: PathCheck | ResourceCheck, verb: str) -> Decision:
    return Decision(part.ask(replace(part.question, verb=verb)))


_add("check", PathCheck, str, cost=lambda *_: CHECK_COST)(_check)
_add("check", ResourceCheck, str, cost=lambda *_: CHECK_COST)(_check)
_add("errored", Decision)(lambda a: bool(a.answer.error))
_add("error", Decision)(lambda a: a.answer.error)
_add("allowed", Decision)(lambda a: a.answer.allowed)
_add("reason", Decision)(lambda a: a.answer.reason)
