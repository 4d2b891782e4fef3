"""The one error that crosses the wire: `ApiError` carries a metav1 Status.

Raised anywhere in the API server, rendered by its pipeline; parsed back by client/rest.
Source of codes and reasons: "Response Status Kind" in the Kubernetes API conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kybern.api import codec
from kybern.api.meta_v1 import Status, StatusCause, StatusDetails


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field. `reason` is upstream's cause type (FieldValueRequired, ...)."""

    reason: str
    field: str
    message: str  # as upstream prints it after the field: "Required value: name is required"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: Any, detail: str) -> FieldError:
    shown = f"Invalid value: {_show(value)}"
    return FieldError("FieldValueInvalid", field, f"{shown}: {detail}" if detail else shown)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def not_supported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    choices = ", ".join(f'"{a}"' for a in allowed)
    return FieldError(
        "FieldValueNotSupported", field, f"Unsupported value: {_show(value)}: supported values: {choices}"
    )


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_show(value)}")


def not_found_field(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", field, f"Not found: {_show(value)}")


def too_long(field: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def internal_error(field: str, detail: str) -> FieldError:
    return FieldError("InternalError", field, f"Internal error: {detail}")


def too_many(field: str, count: int, limit: int) -> FieldError:
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


def _show(value: Any) -> str:
    if isinstance(value, (str, bytes, dict, list, bool)) or value is None:
        text = codec.encode(value).decode()
    elif isinstance(value, (int, float)):
        text = str(value)
    else:
        text = codec.encode(value).decode()
    return text if len(text) <= 1024 else text[:1024] + "..."


class ApiError(Exception):
    """A failed request. `status` is what the client gets; `status.code` is the HTTP code."""

    def __init__(self, status: Status, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status.message or status.reason or "")
        self.status = status
        self.headers = headers

    @property
    def code(self) -> int:
        return self.status.code or 500

    @property
    def reason(self) -> str:
        return self.status.reason or ""

    @property
    def is_not_found(self) -> bool:
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        return self.code == 409 and self.reason == "Conflict"

    @property
    def is_already_exists(self) -> bool:
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """410: the resource version was compacted; list anew."""
        return self.code == 410

    @classmethod
    def make(
        cls,
        code: int,
        reason: str,
        message: str,
        *,
        group_kind: tuple[str, str] | None = None,
        name: str = "",
        uid: str = "",
        causes: Sequence[StatusCause] = (),
        retry_after: int | None = None,
    ) -> ApiError:
        """Any Status. `group_kind` is (group, resource or kind) for its details."""
        details = None
        if group_kind or name or causes or retry_after:
            group, kind = group_kind or ("", "")
            details = StatusDetails(
                name=name or None,
                group=group or None,
                kind=kind or None,
                uid=uid or None,
                causes=list(causes),
                retryAfterSeconds=retry_after,
            )
        headers = (("Retry-After", str(retry_after)),) if retry_after else ()
        return cls(Status(status="Failure", message=message, reason=reason, details=details, code=code), headers)

    @classmethod
    def bad_request(cls, message: str) -> ApiError:
        return cls.make(400, "BadRequest", message)

    @classmethod
    def unauthorized(cls, message: str = "Unauthorized") -> ApiError:
        return cls.make(401, "Unauthorized", message)

    @classmethod
    def forbidden(cls, group: str, resource: str, name: str, why: str) -> ApiError:
        what = f"{resource}.{group}" if group else resource
        shown = f'{what} "{name}"' if name else what
        return cls.make(403, "Forbidden", f"{shown} is forbidden: {why}", group_kind=(group, resource), name=name)

    @classmethod
    def not_found(cls, group: str, resource: str, name: str) -> ApiError:
        what = f"{resource}.{group}" if group else resource
        return cls.make(404, "NotFound", f'{what} "{name}" not found', group_kind=(group, resource), name=name)

    @classmethod
    def no_such_path(cls) -> ApiError:
        return cls._of_path(404, "NotFound", "the server could not find the requested resource")

    @classmethod
    def no_such_method(cls) -> ApiError:
        """405 of a path that is known for other methods."""
        message = "the server does not allow this method on the requested resource"
        return cls._of_path(405, "MethodNotAllowed", message)

    @classmethod
    def no_representation(cls, available: Sequence[str]) -> ApiError:
        """406 where not even the media type is one the path has."""
        listed = ", ".join(available)
        return cls._of_path(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {listed}")

    @classmethod
    def unsupported_body(cls) -> ApiError:
        """415 where the path takes no such media type."""
        return cls._of_path(415, "UnsupportedMediaType", "415: Unsupported Media Type")

    @classmethod
    def unprocessable(cls) -> ApiError:
        """422 of a patch that does not fit the object."""
        return cls._of_path(422, "Invalid", "the server rejected our request due to an error in our request")

    @classmethod
    def _of_path(cls, code: int, reason: str, message: str) -> ApiError:
        """What is told in no more than the words of its code: details that are there and say nothing."""
        return cls(Status(status="Failure", message=message, reason=reason, details=StatusDetails(), code=code))

    @classmethod
    def method_not_allowed(cls, group: str, resource: str, action: str) -> ApiError:
        return cls.make(
            405,
            "MethodNotAllowed",
            f'{action} is not supported on resources of kind "{resource}{"." + group if group else ""}"',
            group_kind=(group, resource),
        )

    @classmethod
    def not_acceptable(cls, accepted: Sequence[str]) -> ApiError:
        return cls.make(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")

    @classmethod
    def already_exists(cls, group: str, resource: str, name: str) -> ApiError:
        what = f"{resource}.{group}" if group else resource
        return cls.make(
            409, "AlreadyExists", f'{what} "{name}" already exists', group_kind=(group, resource), name=name
        )

    @classmethod
    def conflict(cls, group: str, resource: str, name: str, why: str) -> ApiError:
        what = f"{resource}.{group}" if group else resource
        return cls.make(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on {what} "{name}": {why}',
            group_kind=(group, resource),
            name=name,
        )

    @classmethod
    def stale(cls, group: str, resource: str, name: str) -> ApiError:
        """The conflict of optimistic concurrency."""
        why = "the object has been modified; please apply your changes to the latest version and try again"
        return cls.conflict(group, resource, name, why)

    @classmethod
    def expired(cls, message: str) -> ApiError:
        return cls.make(410, "Expired", message)

    @classmethod
    def too_large(cls, message: str) -> ApiError:
        return cls.make(413, "RequestEntityTooLarge", message)

    @classmethod
    def unsupported_media_type(cls, accepted: Sequence[str]) -> ApiError:
        return cls.make(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted),
        )

    @classmethod
    def invalid(cls, group: str, kind: str, name: str, errors: Sequence[FieldError]) -> ApiError:
        """422 with one cause an error. `kind` is the Kind, not the resource."""
        what = f"{kind}.{group}" if group else kind
        texts = [str(e) for e in errors]
        shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        causes = [StatusCause(reason=e.reason, message=e.message, field=e.field) for e in errors]
        return cls.make(
            422, "Invalid", f'{what} "{name}" is invalid: {shown}', group_kind=(group, kind), name=name, causes=causes
        )

    @classmethod
    def too_many_requests(cls, message: str, retry_after: int = 1) -> ApiError:
        return cls.make(429, "TooManyRequests", message, retry_after=retry_after)

    @classmethod
    def timeout(cls, message: str) -> ApiError:
        return cls.make(504, "Timeout", message)

    @classmethod
    def unavailable(cls, message: str) -> ApiError:
        return cls.make(503, "ServiceUnavailable", message)

    @classmethod
    def failed(cls, message: str) -> ApiError:
        """500 that says no more than what went wrong elsewhere."""
        return cls(Status(status="Failure", message=message, code=500))

    @classmethod
    def internal(cls, message: str) -> ApiError:
        return cls.make(500, "InternalError", f"Internal error occurred: {message}")
