# SPDX-License-Identifier: GPL-3.0-or-later
"""Time that several machines spend at once is counted once."""

from __future__ import annotations

import pytest

from pyguixvm.cli.ui.spent import Spent


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(0, 2), (3, 4)], 3),
        ([(0, 2), (1, 3)], 3),
        ([(1, 2), (0, 5)], 5),
        ([(0, 1), (2, 3), (0, 4)], 4),
        ([(2, 3), (0, 1), (0.5, 2.5)], 3),
        ([(1, 0)], 0),
    ],
)
def test_a_part_takes_as_long_as_anybody_is_in_it(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    spent = Spent().going_on("build", 0, 7)
    for begin, end in spans:
        spent = spent.going_on("boot", begin, end)
    assert spent.seconds == {"build": 7, "boot": seconds}
