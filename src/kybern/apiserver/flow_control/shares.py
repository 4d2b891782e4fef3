"""Seats of the priority levels: what each is given by its shares, and what idle ones lend to busy ones. Pure.

Called by upkeep. Source: KEP-1040 "Dispatching" and "Seat borrowing"; the formulas give the same limits as a v1.36
server (which rounds every level's share up, so the levels' seats together are a few more than the server's).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kybern.api.flowcontrol_v1 import PriorityLevelConfiguration
from kybern.apiserver.flow_control.demand import Observed

PERIOD = 10.0  # seconds between two adjustments
_SLOWNESS = 0.977  # of the smoothed demand: it halves in about five minutes


@dataclass(frozen=True, slots=True)
class Limits:
    """Seats of a level: what it is entitled to, and between what its limit moves."""

    nominal: int
    lower: int
    upper: int
    is_exempt: bool = False


@dataclass(frozen=True, slots=True)
class Smoothed:
    """The demand of a level as the last adjustments saw it."""

    seen: Observed = field(default_factory=Observed)
    smooth: float = 0.0

    def after(self, seen: Observed) -> Smoothed:
        envelope = seen.average + seen.deviation
        return Smoothed(seen, max(envelope, _SLOWNESS * self.smooth + (1 - _SLOWNESS) * envelope))


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The seats every level has until the next adjustment."""

    limits: Mapping[str, int]
    targets: Mapping[str, float]
    fair_fraction: float


def plan_limits(levels: Mapping[str, PriorityLevelConfiguration], total: int) -> dict[str, Limits]:
    """What the levels are configured to have of `total` seats."""
    shares = {name: _shares(level) for name, level in levels.items()}
    whole = sum(shares.values())
    return {name: _limits(level, shares[name], whole, total) for name, level in levels.items()}


def _shares(level: PriorityLevelConfiguration) -> int:
    own = level.spec.exempt if level.spec.type == "Exempt" else level.spec.limited
    return (own.nominalConcurrencyShares or 0) if own is not None else 0


def _limits(level: PriorityLevelConfiguration, shares: int, whole: int, total: int) -> Limits:
    nominal = math.ceil(total * shares / whole) if whole else 0
    own = level.spec.exempt if level.spec.type == "Exempt" else level.spec.limited
    lendable = (own.lendablePercent or 0) if own is not None else 0
    borrowing = level.spec.limited.borrowingLimitPercent if level.spec.limited is not None else None
    borrowed = total if borrowing is None else _rounded(nominal * borrowing / 100)
    lower = nominal - _rounded(nominal * lendable / 100)
    return Limits(nominal, lower, nominal + borrowed, level.spec.type == "Exempt")


def _rounded(seats: float) -> int:
    """Halves go up, as in Go."""
    return math.floor(seats + 0.5)


def plan_adjustment(limits: Mapping[str, Limits], demands: Mapping[str, Smoothed], total: int) -> Adjusted:
    """Give each level between its lower and upper limit, in proportion to what it wants.

    An exempt level takes what it takes: what is said of it is only told in metrics.
    """
    bounded = {name: own for name, own in limits.items() if not own.is_exempt}
    room = sum(own.nominal for own in limits.values()) or total
    targets = {name: max(float(own.lower), demands[name].smooth) for name, own in limits.items()}
    # What a level has used at its peak and is entitled to is not taken away from it.
    least = {name: max(float(own.lower), min(own.nominal, demands[name].seen.peak)) for name, own in bounded.items()}
    fraction = _fair_fraction(bounded, targets, least, room)
    found = {
        name: _rounded(min(own.upper, max(least[name], fraction * targets[name]))) for name, own in bounded.items()
    }
    for name, own in limits.items():
        if own.is_exempt:
            found[name] = max(own.lower, math.ceil(demands[name].seen.peak))
    return Adjusted(found, targets, fraction)


def _fair_fraction(
    limits: Mapping[str, Limits], targets: Mapping[str, float], least: Mapping[str, float], room: float
) -> float:
    """The one factor of all targets with which the levels together take `room`.

    The sum grows with the factor, in straight pieces between the points where a level reaches a bound.
    """
    if not any(targets[name] > 0 for name in limits):
        return 0.0
    bends = {0.0}
    for name, own in limits.items():
        if targets[name] > 0:
            bends |= {least[name] / targets[name], own.upper / targets[name]}

    def taken(factor: float) -> float:
        return sum(min(own.upper, max(least[name], factor * targets[name])) for name, own in limits.items())

    low = 0.0
    for high in sorted(bends):
        if taken(high) >= room:
            below, above = taken(low), taken(high)
            return high if above == below else low + (high - low) * (room - below) / (above - below)
        low = high
    return low
