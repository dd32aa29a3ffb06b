# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cases names tests that there are, each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (TESTS / "cases.md").read_text()
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TABLE)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_case_has_a_test(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (TESTS / "libvirt" / file).read_text()


def test_each_line_is_a_case_with_a_test_of_its_own() -> None:
    lines = [line for line in TABLE.splitlines() if re.match(r"\| (?!what )", line)]
    assert len(lines) == len(NAMED) == len(set(NAMED))
    assert {line.count(" | ") for line in lines} == {4}
