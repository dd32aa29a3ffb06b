# SPDX-License-Identifier: GPL-3.0-or-later
"""What was used in the last hour as a small drawing, with its words for who cannot see it; pure."""

from __future__ import annotations

from collections.abc import Sequence

from pyguixvm.exporter.markup import Markup, tag

_WIDTH, _HEIGHT = 96, 20
_FEW = 2


def sparkline(values: Sequence[float | None], said: str) -> Markup | None:
    """Return VALUES, oldest first, as a line between 0 and the largest; SAID is what it shows.

    What is unknown is a gap; None if there is nothing to draw.
    """
    known = [each for each in values if each is not None]
    if len(known) < _FEW:
        return None
    most = max(known) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    lines: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            y = _HEIGHT - 1 - (value / most) * (_HEIGHT - 2)
            lines[-1].append(f"{index * step:.1f},{y:.1f}")
    drawn = [tag("polyline", points=" ".join(line)) for line in lines if len(line) >= _FEW]
    return tag(
        "svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=said,
        class_="line",
    )  # fmt: skip
