"""Rules as text of nft's language. Fed by transaction.py. Pure.

Every word is a number, an address or a name that plan.py checked: nothing a user wrote can end a statement.
"""

from __future__ import annotations

from typing import assert_never

from kybern.proxy.ruleset import (
    Balance,
    BalanceChains,
    Draw,
    DropUnlessFrom,
    Forward,
    FromNetworks,
    FromNode,
    Goto,
    GotoIfRemembered,
    MarkForMasquerade,
    Remember,
    Rule,
)


def render_rule(rule: Rule) -> str:
    """The statements of a rule."""
    match rule:
        case Goto(chain):
            return f"goto {chain}"
        case MarkForMasquerade():
            return "jump mark-for-masquerade"
        case FromNetworks(networks, then):
            return f"ip saddr {{ {', '.join(networks)} }} {render_rule(then)}"
        case FromNode(then):
            return f"fib saddr type local {render_rule(then)}"
        case DropUnlessFrom(()):
            return "drop"
        case DropUnlessFrom(networks):
            return f"ip saddr != {{ {', '.join(networks)} }} drop"
        case Draw(protocol, count, True):
            key = f"{protocol} dport . numgen random mod {count}"
            return f"meta l4proto {protocol} dnat ip to {key} map @nodeport-endpoints-{protocol}"
        case Draw(protocol, count, _):
            key = f"ip daddr . {protocol} dport . numgen random mod {count}"
            return f"meta l4proto {protocol} dnat ip to {key} map @endpoints-{protocol}"
        case Balance(protocol, targets):
            arms = ", ".join(f"{index} : {target.ip} . {target.port}" for index, target in enumerate(targets))
            return f"meta l4proto {protocol} dnat ip to numgen random mod {len(targets)} map {{ {arms} }}"
        case BalanceChains(chains):
            arms = ", ".join(f"{index} : goto {chain}" for index, chain in enumerate(chains))
            return f"numgen random mod {len(chains)} vmap {{ {arms} }}"
        case GotoIfRemembered(memory, chain):
            return f"ip saddr @{memory} goto {chain}"
        case Remember(memory, seconds):
            return f"update @{memory} {{ ip saddr timeout {seconds}s }}"
        case Forward(protocol, target):
            return f"meta l4proto {protocol} dnat ip to {target.ip}:{target.port}"
    assert_never(rule)
