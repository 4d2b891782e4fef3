"""References in commands, arguments and values."""

import pytest

from kybern.kubelet import expansion

VALUES = {"A": "a", "B": "$(A)", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "a"),
        ("x$(A)y$(A)z", "xayaz"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$(B)", "$(A)"),
        ("$(EMPTY)", ""),
        ("$(MISSING)", "$(MISSING)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("$(A)$(", "a$("),
        ("$($(A))", "$($(A))"),
    ],
)
def test_references_are_replaced_and_everything_else_stays(text, expected):
    assert expansion.expand(text, VALUES) == expected


def test_names_that_are_not_known_are_told():
    missing = []
    expansion.expand("$(A) $(X) $$(Y) $(Z)", VALUES, missing)
    assert missing == ["X", "Z"]
