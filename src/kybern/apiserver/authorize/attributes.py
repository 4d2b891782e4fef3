"""What is asked of authorization, and what it answers.

Made from a RequestInfo by the pipeline, from a review by `reviews`, and from headers by authenticate/impersonate.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybern.apiserver.request import RequestInfo, User
from kybern.machinery.status import ApiError

MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Attributes:
    """One thing somebody wants to do: to a resource, or to a path (`resource` is then "")."""

    verb: str
    group: str = ""
    resource: str = ""  # plural
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    version: str = ""
    # Terms of the request's field selector: (field, "=" or "!=", value). Lets a node list its own pods only.
    fields: tuple[tuple[str, str, str], ...] = ()
    # Terms of its label selector: (key, "In" or another operator's name, values). Only for webhooks.
    labels: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @property
    def is_resource(self) -> bool:
        return bool(self.resource)

    @property
    def full_resource(self) -> str:
        """`pods` or `pods/status`: how rules and messages write it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def field(self, name: str) -> str:
        """The one value the field selector allows for a field, or ""."""
        return next((value for field, operator, value in self.fields if field == name and operator in ("=", "==")), "")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it may be done, and why: by which binding of which role, or what was missing."""

    allowed: bool
    reason: str = ""
    authorizer: str = ""  # "masters", "node", "rbac"; "" when nobody allowed it
    binding: str = ""  # "ClusterRoleBinding/x", "RoleBinding/ns/x"
    role: str = ""  # "ClusterRole/x", "Role/ns/x"
    denied: bool = False  # nobody else is asked


def of_request(info: RequestInfo, fields: tuple[tuple[str, str, str], ...] = ()) -> Attributes:
    """What a request asks for. `fields` are the requirements of its field selector."""
    if not info.is_resource:
        return Attributes(info.verb, path=info.path)
    name = info.name
    if not name and fields:
        # Watching one object by name is no more than getting it: rules with resourceNames and nodes rely on this.
        name = next((v for field, operator, v in fields if field == "metadata.name" and operator in ("=", "==")), "")
    return Attributes(
        info.verb, info.group, info.plural, info.subresource, info.namespace, name, info.path, info.version, fields
    )


def describe(user: User, attributes: Attributes) -> str:
    """The sentence of a refusal: `User "x" cannot list resource "pods" in API group "" in the namespace "y"`."""
    if not attributes.is_resource:
        return f'User "{user.name}" cannot {attributes.verb} path "{attributes.path}"'
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {attributes.verb} resource "{attributes.full_resource}" '
        f'in API group "{attributes.group}" {where}'
    )


def forbidden(user: User, attributes: Attributes, reason: str = "") -> ApiError:
    """The 403 for a decision against; `reason` is the decision's."""
    why = describe(user, attributes) + (f": {reason}" if reason else "")
    if not attributes.is_resource:
        return ApiError.make(403, "Forbidden", f"forbidden: {why}")
    return ApiError.forbidden(attributes.group, attributes.resource, attributes.name, why)
