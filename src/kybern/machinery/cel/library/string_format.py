"""`"%s is %d".format([...])`. Called by strings, and by validators for what can be told before.

Source: cel-go's documentation of ext.Strings, "Format", in the version that Kubernetes takes: its numbers in `%e` and
`%f`, and what is in lists and maps, are written as the answers of an API server show.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.library import standard, times
from kybern.machinery.cel.values import Duration, Timestamp, Uint

_CLAUSE = re.compile(r"%(?:(%)|(\.[0-9]*)?(.)|$)", re.DOTALL)
_MAX_PRECISION = 1000
_MAX_DEPTH = 60
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

_REFUSALS: Final = {
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and "
    "timestamps",
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
    "o": "octal clause can only be used on integers",
}


def refusal(verb: str, kind: str) -> str:
    """A value of this kind cannot be written so."""
    return f"error during formatting: {_REFUSALS[verb]}, was given {kind}"


def verbs_of(pattern: str) -> list[str]:
    """The clauses of a pattern, `%%` left out. Raises EvaluationError."""
    found = []
    for match in _CLAUSE.finditer(pattern):
        percent, precision, verb = match.groups()
        if not percent:
            _check(verb, precision)
            found.append(verb)
    return found


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
        if verb is not None and used >= len(args):
            raise EvaluationError(f"index {used} out of range")
        digits = _check(verb, precision)
        found.append(_WRITERS[verb](args[used], digits))
        used += 1
    if used < len(args):
        raise EvaluationError(f"too many arguments supplied to string.format (expected {used}, got {len(args)})")
    found.append(pattern[at:])
    return "".join(found)


def _check(verb: str | None, precision: str | None) -> int:
    """The precision of a clause."""
    if verb is None:
        raise EvaluationError("unexpected end of string")
    digits = 6
    if precision is not None:
        if precision == ".":
            raise EvaluationError(
                "could not parse formatting clause: error while parsing precision: "
                "could not find end of precision specifier"
            )
        digits = int(precision[1:6])
        if digits > _MAX_PRECISION:
            raise EvaluationError("could not parse formatting clause: error while parsing precision: too large")
    if verb not in _REFUSALS:
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')
    return digits


def _wrong(verb: str, value: Any) -> EvaluationError:
    return EvaluationError(refusal(verb, values.type_name(value)))


def _text(value: Any, _digits: int = 0) -> str:
    match value:
        case str():
            return value
        case float():
            if math.isinf(value):
                return "+Inf" if value > 0 else "-Inf"
            return "NaN" if math.isnan(value) else str(standard.render_double(value))
        case Timestamp():
            return times.render_timestamp(value)
        case Duration():
            return times.render_duration(value)
        case bytes():
            return value.decode(errors="replace")
    return _inner(value, 0)


def _inner(value: Any, depth: int) -> str:
    """A value in a list or map."""
    if depth > _MAX_DEPTH:
        raise EvaluationError("value is nested too deeply to be formatted")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Timestamp():
            return f'timestamp("{times.render_timestamp(value)}")'
        case Duration():
            return f'duration("{times.render_duration(value)}")'
        case float():
            return _fixed(value, 6)
        case int():
            return str(int(value))
        case str():
            return _quoted(value)
        case bytes():
            return f"b{_quoted(value.decode(errors='replace'))}"
        case values.TypeValue():
            return value.name
    if values.is_list(value):
        return f"[{', '.join(_inner(v, depth + 1) for v in value)}]"
    if values.is_map(value):
        pairs = sorted((_inner(values.from_key(k), 0), _inner(v, depth + 1)) for k, v in value.items())
        return f"{{{', '.join(f'{k}:{v}' for k, v in pairs)}}}"
    raise _wrong("s", value)


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(c, c) for c in text) + '"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _special(value: Any) -> str | None:
    if value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    if type(value) is not float:
        return None
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return None


def _decimal(value: Any, _digits: int = 0) -> str:
    if type(value) in (int, Uint):
        return str(int(value))
    raise _wrong("d", value)


def _fixed(value: Any, digits: int) -> str:
    special = _special(value)
    if special is not None:
        return special
    if type(value) is float:
        return f"{value:.{digits}f}"
    raise _wrong("f", value)


def _scientific(value: Any, _digits: int) -> str:
    special = _special(value)
    if special is not None:
        return special
    if type(value) is not float:
        raise _wrong("e", value)
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    power = f"{'-' if exponent[0] == '-' else ''}{int(exponent[1:]):02d}"
    return f"{mantissa}×10{power.translate(_SUPERSCRIPT)}"


def _binary(value: Any, _digits: int = 0) -> str:
    if type(value) is bool:
        return "1" if value else "0"
    if type(value) in (int, Uint):
        return f"{int(value):b}"
    raise _wrong("b", value)


def _hexadecimal(value: Any, _digits: int = 0) -> str:
    if type(value) in (int, Uint):
        return f"{int(value):x}"
    if type(value) is str:
        return value.encode().hex()
    if type(value) is bytes:
        return value.hex()
    raise _wrong("x", value)


def _octal(value: Any, _digits: int = 0) -> str:
    if type(value) in (int, Uint):
        return f"{int(value):o}"
    raise _wrong("o", value)


_WRITERS: Final[dict[str, Any]] = {
    "s": _text,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _binary,
    "x": _hexadecimal,
    "X": lambda value, digits: _hexadecimal(value, digits).upper(),
    "o": _octal,
}
