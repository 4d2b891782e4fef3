"""Numbers of custom objects: ranges, formats, and how Go writes a float."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kybern.machinery.status import FieldError

_FORMATS: dict[str, tuple[int, int]] = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_LARGEST_FLOAT = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Range:
    """What a schema asks of numbers."""

    multiple_of: float | None
    maximum: float | None
    exclusive_maximum: bool
    minimum: float | None
    exclusive_minimum: bool

    def check(self, value: float, where: str, whole: bool, form: str, errors: list[FieldError]) -> None:
        if not _fits(value, whole, form):
            kind = "integer" if whole else "number"
            told = f"with format {form}" if form else "(default format)"
            text = f'Invalid value: "": Checked value must be of type {kind} {told} in {where}'
            errors.append(FieldError("FieldValueInvalid", "<nil>", text))
        if self.multiple_of is not None and not _is_multiple(value, self.multiple_of):
            errors.append(_error(where, value, f"should be a multiple of {render(self.multiple_of)}"))
        if self.maximum is not None and (value >= self.maximum if self.exclusive_maximum else value > self.maximum):
            told = "less than" if self.exclusive_maximum else "less than or equal to"
            errors.append(_error(where, value, f"should be {told} {render(self.maximum)}"))
        if self.minimum is not None and (value <= self.minimum if self.exclusive_minimum else value < self.minimum):
            told = "greater than" if self.exclusive_minimum else "greater than or equal to"
            errors.append(_error(where, value, f"should be {told} {render(self.minimum)}"))


def _fits(value: float, whole: bool, form: str) -> bool:
    if whole and isinstance(value, float):
        return False
    if whole and form in _FORMATS:
        low, high = _FORMATS[form]
        return low <= value <= high
    return not (form == "float" and abs(value) > _LARGEST_FLOAT)


def _is_multiple(value: float, factor: float) -> bool:
    if factor <= 0:
        return False
    if isinstance(value, int) and (isinstance(factor, int) or factor.is_integer()):
        return value % int(factor) == 0
    quotient = value / factor
    # Beyond 2**53 every float is whole; upstream does not call it one.
    return math.isfinite(quotient) and abs(quotient - round(quotient)) < 1e-9 and abs(quotient) < 2**53


def render(value: float) -> str:
    """As Go prints a number (`%v`): 10, 1.5, 1e+21."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def _error(where: str, value: float, text: str) -> FieldError:
    return FieldError("FieldValueInvalid", where, f"Invalid value: {render(value)}: {where} in body {text}")
