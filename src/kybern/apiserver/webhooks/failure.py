"""What went wrong with a call, in the words of kube-apiserver (which are those of Go's net/http). Pure.

Used by client. People search for these messages, and tests compare them.
"""

from __future__ import annotations

import os
import socket

import msgspec

_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})  # X509_V_ERR_*: self-signed, no issuer found, no trusted chain
_EXPIRED = frozenset({9, 10})  # not yet valid, expired
_NAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_ADDRESS_MISMATCH = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH
# What client-go says where the body says nothing. Source: the answers of a kube-apiserver.
_STATUS_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
# These say what the body says.
_TOLD_BY_BODY = frozenset({403, 415})
_SHOWN = 2048  # characters of a body in a message


class CallFailed(Exception):
    """A webhook gave no usable answer. The text is upstream's: `Post "https://...": context deadline exceeded`.

    `status` is the HTTP status where there was one (never 2xx), else 0.
    """

    def __init__(
        self, message: str, *, status: int = 0, is_timeout: bool = False, is_misconfigured: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_timeout = is_timeout
        self.is_misconfigured = is_misconfigured  # nobody was called: the bundle or the client certificate is no good


def says_tls(code: int, message: str, name: str) -> str:
    """A certificate that was refused; `code` is OpenSSL's verify code."""
    if code in _UNKNOWN_AUTHORITY:
        why = "x509: certificate signed by unknown authority"
    elif code in _EXPIRED:
        why = "x509: certificate has expired or is not yet valid"
    elif code == _ADDRESS_MISMATCH:
        # Said of certificates for other addresses as well: which they are for is not known here.
        why = f"x509: cannot validate certificate for {name} because it doesn't contain any IP SANs"
    elif code == _NAME_MISMATCH:
        why = f"x509: certificate is not valid for {name}"  # upstream lists the names that it is valid for
    else:
        why = f"x509: {message}"
    return f"tls: failed to verify certificate: {why}"


def says_dial(host: str, port: int, error: OSError) -> str:
    """A connection that was not made."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    known = error.errno is not None and error.errno > 0  # the loop puts words of its own into `strerror`
    why = (os.strerror(error.errno) if known and error.errno else str(error)).lower()
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"dial tcp {shown}: connect: {why}"


def says_status(status: int, body: bytes) -> str:
    """An answer that is no success: its own Status or text where it has one."""
    told = _told(body)
    if told is not None:
        return told
    text = body[:_SHOWN].decode("utf-8", "replace").strip()
    if status in _TOLD_BY_BODY:
        return text
    if status in _STATUS_TEXTS:
        return _STATUS_TEXTS[status]
    if status >= 500:
        return f"an error on the server ({_quoted(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"


def _told(body: bytes) -> str | None:
    """The message of a metav1.Status; None if the body is none."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if isinstance(decoded, dict) and decoded.get("kind") == "Status" and decoded.get("status") == "Failure":
        message = decoded.get("message")
        return message[:_SHOWN] if isinstance(message, str) else ""
    return None


def _quoted(text: str) -> str:
    """As Go's %q, near enough: one line, nothing that could forge another."""
    return msgspec.json.encode(text).decode()
