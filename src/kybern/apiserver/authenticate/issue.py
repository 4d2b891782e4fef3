"""Make tokens for service accounts: the `token` subresource.

Called by handlers for `create serviceaccounts/token`; what is made here, service_accounts accepts.
Source: TokenRequest in the API reference, and "Bound service account tokens" in the documentation.
"""

from __future__ import annotations

import datetime
import random
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api import codec, scalars
from kybern.api.authentication_v1 import BoundObjectReference, TokenRequest
from kybern.api.core_v1 import Pod, ServiceAccount
from kybern.apiserver import audit
from kybern.apiserver.authenticate.claims import Bound, Named, user_name
from kybern.apiserver.authenticate.keys import SigningKey
from kybern.apiserver.request import Reader
from kybern.machinery import names, status
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

SHORTEST = 10 * 60
LONGEST = 1 << 32
DEFAULT = 60 * 60
PROJECTED = 3607  # what admission asks for: recognisable, and so extendable
EXTENDED = 365 * 24 * 60 * 60
_GROUP, _KIND = "authentication.k8s.io", "TokenRequest"


@dataclass(frozen=True, slots=True)
class IssuerOptions:
    """Flags of the API server about tokens."""

    issuer: str = "https://kubernetes.default.svc.cluster.local"
    audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)  # of tokens that ask for none
    max_expiration: int = 0  # seconds; 0: no limit. --service-account-max-token-expiration
    extend_expiration: bool = False  # --service-account-extend-token-expiration


@dataclass(frozen=True, slots=True)
class _Binding:
    """The object a token shall die with."""

    pod: Named | None = None
    secret: Named | None = None
    node: Named | None = None


class TokenIssuer:
    """Signs tokens of live service accounts."""

    def __init__(
        self, key: SigningKey, options: IssuerOptions, reader: Reader, clock: Clock, rng: random.Random
    ) -> None:
        self._key = key
        self._options = options
        self._reader = reader
        self._clock = clock
        self._rng = rng

    def issue_token(self, account: ServiceAccount, request: TokenRequest) -> TokenRequest:
        """The request with its status filled in, and its spec as it was granted.

        Raises ApiError: 422 for a lifetime out of range, 404 and 409 for the object to be bound to, 400 for a pod of
        another service account or an object of another kind.
        """
        granted = codec.clone(request)
        spec = granted.spec
        wanted = self._lifetime(spec.expirationSeconds)
        binding = self._bind(account, spec.boundObjectRef)
        spec.audiences = spec.audiences or list(self._options.audiences)
        now = self._clock.now().replace(microsecond=0)
        lifetime = wanted
        if self._is_extendable(wanted, spec.audiences, binding):
            lifetime = EXTENDED
        begins, ends = int(now.timestamp()), int(now.timestamp()) + lifetime
        jti = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        audit.annotate("authentication.kubernetes.io/issued-credential-id", f"JTI={jti}")
        claims = {
            "aud": spec.audiences,
            "exp": ends,
            "iat": begins,
            "iss": self._options.issuer,
            "jti": jti,
            "kubernetes.io": Bound(
                account.metadata.namespace,
                Named(account.metadata.name, account.metadata.uid),
                binding.pod,
                binding.secret,
                binding.node,
                begins + wanted if lifetime != wanted else None,
            ),
            "nbf": begins,
            "sub": user_name(account.metadata.namespace, account.metadata.name),
        }
        granted.metadata.name = account.metadata.name
        granted.metadata.namespace = account.metadata.namespace
        granted.metadata.uid = account.metadata.uid
        granted.metadata.creationTimestamp = scalars.render_time(now)
        spec.expirationSeconds = wanted
        granted.status.token = self._key.sign(msgspec.to_builtins(claims))
        # Upstream reports the lifetime that was asked for, also when it secretly extends it.
        granted.status.expirationTimestamp = scalars.render_time(now + datetime.timedelta(seconds=wanted))
        return granted

    def _lifetime(self, wanted: int | None) -> int:
        seconds = DEFAULT if wanted is None else wanted
        detail = ""
        if seconds < SHORTEST:
            detail = "may not specify a duration less than 10 minutes"
        elif seconds > LONGEST:
            detail = "may not specify a duration larger than 2^32 seconds"
        if detail:
            error = status.invalid("spec.expirationSeconds", seconds, detail)
            raise ApiError.invalid(_GROUP, _KIND, "", [error])
        limit = self._options.max_expiration
        return min(seconds, limit) if limit else seconds

    def _is_extendable(self, seconds: int, audiences: list[str], binding: _Binding) -> bool:
        ours = set(audiences) <= set(self._options.audiences)
        return self._options.extend_expiration and seconds == PROJECTED and binding.pod is not None and ours

    def _bind(self, account: ServiceAccount, ref: BoundObjectReference | None) -> _Binding:
        if ref is None:
            return _Binding()
        namespace = account.metadata.namespace
        group, _, version = ("/" + (ref.apiVersion or "v1")).rpartition("/")
        match (group.strip("/"), ref.kind or ""):  # of whatever version
            case ("", "Pod"):
                pod: Pod = self._named_object("pods", namespace, ref)
                if (pod.spec.serviceAccountName or "") != account.metadata.name:
                    raise ApiError.bad_request(
                        f"cannot bind token for serviceaccount {_quoted(account.metadata.name)} "
                        "to pod running with different serviceaccount name."
                    )
                _check_uid(pod, ref)
                return _Binding(pod=_named(pod), node=self._node_of(pod))
            case ("", "Secret"):
                return _Binding(secret=_named(self._bound_object("secrets", namespace, ref)))
            case ("", "Node"):
                return _Binding(node=_named(self._bound_object("nodes", "", ref)))
            case (group, kind):
                raise ApiError.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")

    def _bound_object(self, resource: str, namespace: str, ref: BoundObjectReference) -> Any:
        obj = self._named_object(resource, namespace, ref)
        _check_uid(obj, ref)
        return obj

    def _named_object(self, resource: str, namespace: str, ref: BoundObjectReference) -> Any:
        name = ref.name or ""
        if not name:
            raise ApiError.bad_request("Name parameter required.")
        for fault in names.check_path_segment(name):
            raise ApiError.bad_request(f"Name parameter invalid: {_quoted(name)}: {fault}")
        obj = self._reader.get(resource, namespace, name)
        if obj is None:
            raise ApiError.not_found("", resource, name)
        return obj

    def _node_of(self, pod: Pod) -> Named | None:
        if not pod.spec.nodeName:
            return None
        node = self._reader.get("nodes", "", pod.spec.nodeName)
        return Named(pod.spec.nodeName, node.metadata.uid if node else "")


def _check_uid(obj: Any, ref: BoundObjectReference) -> None:
    if ref.uid and ref.uid != obj.metadata.uid:
        told = (
            f"the UID in the bound object reference ({ref.uid}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise ApiError.conflict("", obj.kind, obj.metadata.name, told)


def _named(obj: Any) -> Named:
    return Named(obj.metadata.name, obj.metadata.uid)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
