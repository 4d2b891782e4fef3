"""Admission without a server: the built-in chain over an ObjectTable, for unit tests of plugins.

Objects are completed with defaults before they are admitted, as the registry does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import Container, Namespace, Pod, PodSpec, ServiceAccount
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.admission import Attributes, built_in
from kybern.apiserver.admission.chain import Chain
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User
from kybern.machinery import defaults, scheme
from kybern.machinery.status import ApiError
from kybern.testing.clock import FakeClock
from kybern.testing.objects import ObjectTable

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))


class Gate:
    """The whole chain over a namespace "ns" with its default service account."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.objects = ObjectTable(
            Namespace(metadata=ObjectMeta(name="ns")),
            ServiceAccount(metadata=ObjectMeta(name="default", namespace="ns")),
        )
        self.authorizers = Authorizers(self.objects)
        plugins = built_in.plugins(self.objects, self.objects, self.authorizers, self.clock, random.Random(1))
        self.chain = Chain(plugins)

    def attributes(self, operation: str, obj: Any, old: Any = None, **more: Any) -> Attributes:
        shown = obj if obj is not None else old
        row = scheme.kind_of(shown.apiVersion, shown.kind)
        assert row is not None
        chosen = {"subresource": "", "user": ADMIN, "namespace": shown.metadata.namespace, **more}
        return Attributes(
            operation=operation,  # type: ignore[arg-type]
            resource=row,
            name=shown.metadata.name,
            object=obj,
            old=old,
            **chosen,
        )

    def create(self, obj: Any, **more: Any) -> Any:
        """The object as admitted, after defaults; the given one is not changed."""
        made = codec.clone(obj)
        defaults.apply(made)
        waiting = self.chain.admit(self.attributes("CREATE", made, **more))
        assert waiting is None, "this write has to wait"
        return made

    def update(self, obj: Any, old: Any, **more: Any) -> Any:
        made = codec.clone(obj)
        assert self.chain.admit(self.attributes("UPDATE", made, old, **more)) is None
        return made

    def delete(self, old: Any, **more: Any) -> None:
        assert self.chain.admit(self.attributes("DELETE", None, old, **more)) is None

    def refusal(self, verb: Callable[..., Any], *args: Any, **more: Any) -> str:
        """What a 403 says; "" when nothing is refused."""
        try:
            verb(*args, **more)
        except ApiError as error:
            assert error.code == 403, error
            return str(error)
        return ""


def pod(*containers: Container, namespace: str = "ns", **spec: Any) -> Pod:
    """A pod "p"; one container that says nothing, if none is given."""
    held = list(containers) or [Container(name="c", image="i")]
    return Pod(metadata=ObjectMeta(name="p", namespace=namespace), spec=PodSpec(containers=held, **spec))
