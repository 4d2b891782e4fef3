"""Resource lists are no finer than a thousandth: smaller fractions are rounded up when an object is written."""

from __future__ import annotations

from kybern.api.scalars import Quantity
from kybern.machinery import quantity


def round_up(amounts: dict[str, Quantity]) -> None:
    """In place; anything that is a multiple of a thousandth stays."""
    for name, amount in amounts.items():
        # Most are plain integers or end in m, Mi, Gi: only n, u, exponents and long fractions can be finer.
        if amount[-1:] in ("n", "u") and not quantity.is_milli(amount):
            amounts[name] = quantity.from_milli(quantity.milli(amount))
