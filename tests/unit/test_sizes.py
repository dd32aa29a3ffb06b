# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as people read them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.model.sizes import format_size, sizes_apart


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536, "1.5K"),
        (320_264_192, "305.4M"),
        (10 * 1024**3, "10G"),
        (10 * 1024**3 + 1, "10.0G"),
        (1024**3 - 1, "1.0G"),
        (1024**2, "1M"),
        (3 * 1024**6, "3E"),
        (5000 * 1024**6, "5000E"),
    ],
)
def test_examples(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=2**70))
def test_the_text_is_within_half_a_tenth_and_exact_without_a_decimal(size: int) -> None:
    text = format_size(size)
    unit = 1024 ** "BKMGTPE".index(text[-1])
    value = Fraction(text[:-1]) * unit
    if "." in text:
        assert value != size or text.endswith(".0" + text[-1]) or size % unit
        assert abs(value - size) <= Fraction(unit, 20)
    else:
        assert value == size
    assert text[-1] == "E" or value <= 1024 * unit - Fraction(unit, 20)


@given(st.integers(min_value=0, max_value=2**70), st.integers(min_value=-(2**40), max_value=2**40))
def test_two_sizes_that_differ_read_as_such(size: int, more: int) -> None:
    other = max(0, size + more)
    read = {text.replace(".0", "") for text in sizes_apart(size, other)}
    assert len(read) == (1 if size == other else 2)
