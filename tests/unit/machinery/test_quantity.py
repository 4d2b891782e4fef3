"""Resource amounts. Source: "Quantity" in the Kubernetes API reference."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api import scalars
from kybern.machinery import quantity

SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": 1, "k": 10**3, "M": 10**6,
    "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "e3": 1000, "E-3": Fraction(1, 1000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "milli", "value"),
    [
        ("0", 0, 0),
        ("1", 1000, 1),
        ("100m", 100, 1),
        ("1500m", 1500, 2),
        ("0.5", 500, 1),
        ("1n", 1, 1),
        ("1001u", 2, 1),
        ("-1500m", -1500, -2),
        ("-1u", -1, -1),
        ("1Ki", 1024000, 1024),
        ("1.5Gi", 1610612736000, 1610612736),
        ("1e3", 1000000, 1000),
        ("2E", 2 * 10**21, 2 * 10**18),
    ],
)
def test_rounding_is_away_from_zero(text: str, milli: int, value: int) -> None:
    assert quantity.milli(text) == milli
    assert quantity.value(text) == value


@pytest.mark.parametrize("text", ["", "a", "1 ", "1ki", "1KiB", "--1", "1.2.3", "0x1", "1e", "nan", "inf", "1Zi", "１"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        quantity.nano(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.1", "100m"),
        ("1000k", "1M"),
        ("16000000Ki", "15625Mi"),
        ("1e3", "1e3"),
        ("0Gi", "0"),
        ("-0.5", "-500m"),
        ("1025Ki", "1025Ki"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("9999999999999999999999", "9999999999999999999999"),
        ("100Ei", "9223372036854775807"),
        ("1e30", "1e30"),
        ("1e19", "10e18"),
    ],
)
def test_amounts_have_one_spelling(text: str, canonical: str) -> None:
    assert scalars.canonical_quantity(text) == canonical


def test_sums_keep_the_format_of_the_first_amount() -> None:
    assert quantity.add("1Gi", "512Mi") == "1536Mi"
    assert quantity.add("0", "64Mi") == "64Mi"
    assert quantity.add("100m", "1") == "1100m"
    assert quantity.sub("2", "500m") == "1500m"
    assert quantity.sub("1Gi", "1Gi") == "0"
    assert quantity.sub("0", "1Mi") == "-1Mi"
    assert quantity.add_maps([{"cpu": "1"}, {"cpu": "500m", "memory": "1Ki"}]) == {"cpu": "1500m", "memory": "1Ki"}
    assert quantity.max_maps([{"cpu": "1"}, {"cpu": "500m", "memory": "1Ki"}]) == {"cpu": "1", "memory": "1Ki"}


def test_amounts_made_of_numbers_are_canonical() -> None:
    assert quantity.from_milli(1500) == "1500m"
    assert quantity.from_milli(2000) == "2"
    assert quantity.from_value(2048, binary=True) == "2Ki"
    assert quantity.from_value(2000) == "2k"


_AMOUNTS = st.builds(
    lambda sign, whole, fraction, suffix: (f"{sign}{whole}{fraction}{suffix}", suffix),
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 999_999),
    st.sampled_from(["", ".5", ".25", ".125"]),
    st.sampled_from(sorted(SUFFIXES)),
)


def exact(text: str, suffix: str) -> Fraction:
    return Fraction(text.removesuffix(suffix) if suffix else text) * SUFFIXES[suffix]


@given(_AMOUNTS)
def test_an_amount_is_its_number_times_its_suffix(amount: tuple[str, str]) -> None:
    text, suffix = amount
    number = exact(text, suffix)
    found = Fraction(quantity.nano(text), 10**9)
    # Finer than a nano-unit is rounded away from zero.
    assert abs(found) >= abs(number)
    assert abs(found - number) < Fraction(1, 10**9)


@given(_AMOUNTS)
def test_the_canonical_text_is_the_same_amount_and_stays(amount: tuple[str, str]) -> None:
    canonical = scalars.canonical_quantity(amount[0])
    assert quantity.nano(canonical) == quantity.nano(amount[0])
    # 1578.125Ki is 1616000, without a suffix: read again that is a decimal amount, 1616k.
    lost_its_suffix = "i" in amount[1] and "i" not in canonical
    again = scalars.canonical_quantity(canonical)
    assert again == canonical or lost_its_suffix
    assert scalars.canonical_quantity(again) == again
    assert quantity.nano(again) == quantity.nano(canonical)


@given(_AMOUNTS, _AMOUNTS)
def test_arithmetic_is_exact(a: tuple[str, str], b: tuple[str, str]) -> None:
    assert quantity.nano(quantity.add(a[0], b[0])) == quantity.nano(a[0]) + quantity.nano(b[0])
    assert quantity.nano(quantity.sub(quantity.add(a[0], b[0]), b[0])) == quantity.nano(a[0])
    assert quantity.compare(a[0], b[0]) == -quantity.compare(b[0], a[0])
    assert (quantity.compare(a[0], b[0]) == 0) == (quantity.nano(a[0]) == quantity.nano(b[0]))
