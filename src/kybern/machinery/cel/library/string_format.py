"""`"%s is %d".format([...])`. Called by strings. Source: cel-go's documentation of ext.Strings, "Format"."""

from __future__ import annotations

import math
import re
from typing import Any

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.library import standard, times
from kybern.machinery.cel.values import Duration, Timestamp, Uint

_CLAUSE = re.compile(r"%(?:(%)|(\.[0-9]*)?(.)|$)", re.DOTALL)
_MAX_PRECISION = 1000
_MAX_DEPTH = 60


def formatted(pattern: str, args: Any) -> str:
    """Raises EvaluationError."""
    found: list[str] = []
    at = 0
    used = 0
    for match in _CLAUSE.finditer(pattern):
        found.append(pattern[at : match.start()])
        at = match.end()
        percent, precision, verb = match.groups()
        if percent:
            found.append("%")
            continue
        if verb is None:
            raise EvaluationError("unexpected end of string")
        if used >= len(args):
            raise EvaluationError(f"index {used} out of range")
        found.append(_clause(verb, precision, args[used]))
        used += 1
    found.append(pattern[at:])
    return "".join(found)


def _clause(verb: str, precision: str | None, value: Any) -> str:
    digits = _precision(precision)
    match verb:
        case "s":
            return _text(value, 0)
        case "d":
            return _decimal(value)
        case "f":
            return _fixed(value, 6 if digits is None else digits)
        case "e":
            return _scientific(value, 6 if digits is None else digits)
        case "b":
            return _binary(value)
        case "x" | "X":
            return _hexadecimal(value, upper=verb == "X")
        case "o":
            return _octal(value)
    raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _precision(text: str | None) -> int | None:
    if text is None:
        return None
    if text == ".":
        raise EvaluationError(
            "could not parse formatting clause: error while parsing precision: "
            "could not find end of precision specifier"
        )
    digits = int(text[1:6])
    if digits > _MAX_PRECISION:
        raise EvaluationError(
            "could not parse formatting clause: error while parsing precision: precision is too large"
        )
    return digits


def _text(value: Any, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise EvaluationError("value is nested too deeply to be formatted")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Timestamp():
            return times.render_timestamp(value)
        case Duration():
            return times.render_duration(value)
        case float():
            if math.isinf(value):
                return "Infinity" if value > 0 else "-Infinity"
            return "NaN" if math.isnan(value) else str(standard.render_double(value))
        case int():
            return str(int(value))
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case values.TypeValue():
            return value.name
    if values.is_list(value):
        return f"[{', '.join(_text(v, depth + 1) for v in value)}]"
    if values.is_map(value):
        pairs = sorted((_text(values.from_key(k), 0), _text(v, depth + 1)) for k, v in value.items())
        return f"{{{', '.join(f'{k}: {v}' for k, v in pairs)}}}"
    raise EvaluationError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, "
        f"types, durations, and timestamps, was given {values.type_name(value)}"
    )


def _wrong(clause: str, allowed: str, value: Any) -> EvaluationError:
    return EvaluationError(
        f"error during formatting: {clause} clause can only be used on {allowed}, was given {values.type_name(value)}"
    )


def _special(value: float) -> str | None:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return None


def _decimal(value: Any) -> str:
    if type(value) in (int, Uint):
        return str(int(value))
    if type(value) is float:
        return _special(value) or str(standard.render_double(value))
    raise _wrong("decimal", "integers", value)


def _fixed(value: Any, digits: int) -> str:
    if type(value) in (int, Uint, float):
        return _special(float(value)) or f"{float(value):.{digits}f}"
    if value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    raise _wrong("fixed-point", "doubles", value)


def _scientific(value: Any, digits: int) -> str:
    if type(value) in (int, Uint, float):
        return _special(float(value)) or f"{float(value):.{digits}e}"
    if value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    raise _wrong("scientific", "doubles", value)


def _binary(value: Any) -> str:
    if type(value) is bool:
        return "1" if value else "0"
    if type(value) in (int, Uint):
        return f"{int(value):b}"
    raise EvaluationError(
        "error during formatting: only integers and bools can be formatted as binary, was given "
        f"{values.type_name(value)}"
    )


def _hexadecimal(value: Any, *, upper: bool) -> str:
    if type(value) in (int, Uint):
        text = f"{int(value):x}"
    elif type(value) is str:
        text = value.encode().hex()
    elif type(value) is bytes:
        text = value.hex()
    else:
        raise EvaluationError(
            "error during formatting: only integers, byte buffers, and strings can be formatted as hex, was given "
            f"{values.type_name(value)}"
        )
    return text.upper() if upper else text


def _octal(value: Any) -> str:
    if type(value) in (int, Uint):
        return f"{int(value):o}"
    raise _wrong("octal", "integers", value)
