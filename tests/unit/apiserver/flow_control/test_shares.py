from kybern.api import codec
from kybern.api.flowcontrol_v1 import PriorityLevelConfiguration
from kybern.apiserver.flow_control import bootstrap, shares
from kybern.apiserver.flow_control.demand import Observed

LEVELS = {level.metadata.name: level for level in (*bootstrap.MANDATORY_LEVELS, *bootstrap.SUGGESTED_LEVELS)}


def test_the_levels_of_every_cluster_have_the_seats_they_have_upstream() -> None:
    limits = shares.plan_limits(LEVELS, 600)
    told = {name: (own.nominal, own.lower, own.upper) for name, own in limits.items()}
    assert told == {  # apiserver_flowcontrol_{nominal,lower,upper}_limit_seats of v1.36.2
        "catch-all": (13, 13, 613),
        "exempt": (0, 0, 600),
        "global-default": (49, 24, 649),
        "leader-election": (25, 25, 625),
        "node-high": (98, 73, 698),
        "system": (74, 50, 674),
        "workload-high": (98, 49, 698),
        "workload-low": (245, 24, 845),
    }


def test_idle_levels_are_adjusted_as_upstream() -> None:
    limits = shares.plan_limits(LEVELS, 600)
    idle = {name: shares.Smoothed() for name in LEVELS}
    idle["exempt"] = shares.Smoothed(Observed(0.2, 1.3, 31), 7.6)
    adjusted = shares.plan_adjustment(limits, idle, 600)
    assert adjusted.limits == {  # apiserver_flowcontrol_current_limit_seats
        "catch-all": 30,
        "exempt": 31,
        "global-default": 56,
        "leader-election": 58,
        "node-high": 170,
        "system": 117,
        "workload-high": 114,
        "workload-low": 56,
    }
    assert abs(adjusted.fair_fraction - 7 / 3) < 1e-9


def test_a_busy_level_borrows_what_idle_ones_lend() -> None:
    limits = shares.plan_limits(LEVELS, 600)
    demands = {name: shares.Smoothed() for name in LEVELS}
    demands["workload-low"] = shares.Smoothed(Observed(500, 10, 600), 510)
    adjusted = shares.plan_adjustment(limits, demands, 600)
    assert adjusted.limits["workload-low"] > 300
    assert all(adjusted.limits[name] >= own.lower for name, own in limits.items() if not own.is_exempt)
    assert abs(sum(n for name, n in adjusted.limits.items() if name != "exempt") - 602) <= 4


def test_what_a_level_used_at_its_peak_is_left_to_it() -> None:
    limits = shares.plan_limits(LEVELS, 600)
    demands = {name: shares.Smoothed() for name in LEVELS}
    demands["workload-low"] = shares.Smoothed(Observed(500, 10, 600), 510)
    demands["node-high"] = shares.Smoothed(Observed(1, 1, 98), 2)
    assert shares.plan_adjustment(limits, demands, 600).limits["node-high"] >= 98


def test_a_level_with_a_borrowing_limit_borrows_no_more() -> None:
    obj = codec.clone(LEVELS["workload-low"])
    assert isinstance(obj, PriorityLevelConfiguration)
    assert obj.spec.limited is not None
    obj.spec.limited.borrowingLimitPercent = 10
    limits = shares.plan_limits({**LEVELS, "workload-low": obj}, 600)
    demands = {name: shares.Smoothed() for name in LEVELS}
    demands["workload-low"] = shares.Smoothed(Observed(500, 10, 600), 510)
    assert shares.plan_adjustment(limits, demands, 600).limits["workload-low"] == 245 + 25


def test_a_level_without_shares_has_no_seats_and_divides_nothing_by_zero() -> None:
    obj = codec.clone(LEVELS["workload-low"])
    assert isinstance(obj, PriorityLevelConfiguration)
    assert obj.spec.limited is not None
    obj.spec.limited.nominalConcurrencyShares = 0
    limits = shares.plan_limits({"only": obj}, 600)
    assert limits["only"].nominal == 0
    shares.plan_adjustment(limits, {"only": shares.Smoothed()}, 600)


def test_smoothed_demand_falls_slowly_and_rises_at_once() -> None:
    risen = shares.Smoothed().after(Observed(100, 5, 200))
    assert risen.smooth == 105
    fallen = risen.after(Observed(0, 0, 0))
    assert 100 < fallen.smooth < 105
