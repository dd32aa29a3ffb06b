# SPDX-License-Identifier: GPL-3.0-or-later
"""One metric with its samples, as they are collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from pyguixvm.printable import printable

_Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily


class Table:
    """Takes samples of FAMILY; of each set of labels the first counts."""

    def __init__(self, family: _Family) -> None:
        """Nothing is known yet."""
        self._family = family
        self._labels: set[tuple[str, ...]] = set()

    def add(self, labels: Sequence[str], value: float | None) -> None:
        """Take the sample VALUE with LABELS; None is not known, and absent."""
        # What a guest or somebody else calls a thing may be anything.
        texts = tuple(map(printable, labels))
        if value is not None and texts not in self._labels:
            self._labels.add(texts)
            self._family.add_metric(texts, float(value))

    def metric(self) -> _Family:
        """Return what was taken."""
        return self._family


def gauge(name: str, said: str, labels: Sequence[str]) -> Table:
    """Return a table of the gauge NAME, which SAID explains, with LABELS."""
    return Table(GaugeMetricFamily(name, said, labels=labels))


def counter(name: str, said: str, labels: Sequence[str]) -> Table:
    """Return a table of the counter NAME, without its ``_total``, as `gauge` does."""
    return Table(CounterMetricFamily(name, said, labels=labels))
