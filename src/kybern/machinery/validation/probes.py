"""Probes and lifecycle handlers."""

from __future__ import annotations

import re

from kybern.api.core_v1 import HTTPGetAction, Lifecycle, LifecycleHandler, Probe
from kybern.machinery.status import forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors

_HEADER = re.compile(r"[-A-Za-z0-9]+")
_NOT_A_HEADER = (
    "a valid HTTP header must consist of alphanumeric characters or '-' "
    "(e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
)
_SCHEMES = ("HTTP", "HTTPS")
_NO_HANDLER = "must specify a handler type"
_TWO_HANDLERS = "may not specify more than 1 handler type"


def _check_http(action: HTTPGetAction, path: str, errors: Errors) -> None:
    if not action.path:
        errors.append(required(f"{path}.path"))
    rules.check_port_or_name(action.port, f"{path}.port", errors)
    if action.scheme not in _SCHEMES:
        errors.append(not_supported(f"{path}.scheme", action.scheme or "", _SCHEMES))
    for header in action.httpHeaders:
        if not _HEADER.fullmatch(header.name):
            errors.append(invalid(f"{path}.httpHeaders", header.name, _NOT_A_HEADER))


def check_handler(handler: Probe | LifecycleHandler, grace: int | None, path: str, errors: Errors) -> None:
    """Exactly one handler. `grace`: the pod's terminationGracePeriodSeconds, which a sleep must not exceed."""
    count = 0
    # The order is upstream's: the first handler found is checked, any further one is one too many.
    for name in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action = getattr(handler, name, None)
        if action is None:
            continue
        count += 1
        if count > 1:
            errors.append(forbidden_field(f"{path}.{name}", _TWO_HANDLERS))
            continue
        match name:
            case "exec":
                if not action.command:
                    errors.append(required(f"{path}.exec.command"))
            case "httpGet":
                _check_http(action, f"{path}.httpGet", errors)
            case "tcpSocket":
                rules.check_port_or_name(action.port, f"{path}.tcpSocket.port", errors)
            case "grpc":
                rules.check_port(action.port, f"{path}.grpc.port", errors)
            case _:
                limit = grace if grace is not None else 0
                if not 0 <= action.seconds <= limit:
                    message = f"must be non-negative and less than terminationGracePeriodSeconds ({limit})"
                    errors.append(invalid(f"{path}.sleep", action.seconds, message))
    if count == 0:
        errors.append(required(path, _NO_HANDLER))


_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def _check_probe(probe: Probe, path: str, errors: Errors) -> None:
    check_handler(probe, None, path, errors)
    for name in _NUMBERS:
        value = getattr(probe, name)
        if value is not None and value < 0:
            errors.append(invalid(f"{path}.{name}", value, "must be greater than or equal to 0"))
    grace = probe.terminationGracePeriodSeconds
    if grace is not None and grace <= 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))


def check_probes(
    liveness: Probe | None, readiness: Probe | None, startup: Probe | None, path: str, errors: Errors
) -> None:
    if liveness is not None:
        _check_probe(liveness, f"{path}.livenessProbe", errors)
        _check_one_success(liveness, f"{path}.livenessProbe", errors)
    if readiness is not None:
        _check_probe(readiness, f"{path}.readinessProbe", errors)
        if readiness.terminationGracePeriodSeconds is not None:
            where = f"{path}.readinessProbe.terminationGracePeriodSeconds"
            errors.append(
                invalid(where, readiness.terminationGracePeriodSeconds, "must not be set for readinessProbes")
            )
    if startup is not None:
        _check_probe(startup, f"{path}.startupProbe", errors)
        _check_one_success(startup, f"{path}.startupProbe", errors)


def _check_one_success(probe: Probe, path: str, errors: Errors) -> None:
    if probe.successThreshold != 1:
        errors.append(invalid(f"{path}.successThreshold", probe.successThreshold or 0, "must be 1"))


def check_lifecycle(lifecycle: Lifecycle, grace: int | None, path: str, errors: Errors) -> None:
    if lifecycle.postStart is not None:
        check_handler(lifecycle.postStart, grace, f"{path}.postStart", errors)
    if lifecycle.preStop is not None:
        check_handler(lifecycle.preStop, grace, f"{path}.preStop", errors)
