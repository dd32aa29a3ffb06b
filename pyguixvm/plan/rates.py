# SPDX-License-Identifier: GPL-3.0-or-later
"""What is used in a second, from two looks at what libvirt counts; pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyguixvm.model.statistics import DiskStatistics, InterfaceStatistics, Statistics


class Rates(msgspec.Struct, frozen=True, rename="kebab"):
    """Of one domain: CPU is in processors, the others are bytes a second; None is unknown."""

    cpu: float | None = None
    read: float | None = None
    written: float | None = None
    received: float | None = None
    sent: float | None = None


def rates(before: Statistics | None, after: Statistics | None, seconds: float) -> Rates:
    """Return what a domain used between BEFORE and AFTER, which is SECONDS later.

    What counts from anew, for the guest was started meanwhile, or was not told, is unknown.
    """
    if before is None or after is None or seconds <= 0:
        return Rates()
    return Rates(
        cpu=_rate(before.cpu_seconds, after.cpu_seconds, seconds),
        read=_rate(_sum(before.disks, "read_bytes"), _sum(after.disks, "read_bytes"), seconds),
        written=_rate(_sum(before.disks, "write_bytes"), _sum(after.disks, "write_bytes"), seconds),
        received=_rate(
            _sum(before.interfaces, "received_bytes"),
            _sum(after.interfaces, "received_bytes"),
            seconds,
        ),
        sent=_rate(
            _sum(before.interfaces, "sent_bytes"), _sum(after.interfaces, "sent_bytes"), seconds
        ),
    )


def _sum(parts: Iterable[DiskStatistics | InterfaceStatistics], field: str) -> int | None:
    counted = [getattr(each, field) for each in parts]
    known = [each for each in counted if each is not None]
    return sum(known) if known else None


def _rate(before: float | None, after: float | None, seconds: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return (after - before) / seconds
