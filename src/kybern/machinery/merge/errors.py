"""Why a patch was not applied: one class for each answer the API server gives. Raised by the whole package."""

from __future__ import annotations


class PatchError(ValueError):
    """Base. The message is for the client."""


class MalformedPatch(PatchError):
    """Whatever the document, this is no patch: 400."""


class PatchTooLarge(PatchError):
    """It asks for more work or memory than is allowed: 413."""


class PatchFailed(PatchError):
    """It does not fit this document: 422."""


class PatchTestFailed(PatchFailed):
    """A `test` operation of a JSON patch found another value."""
