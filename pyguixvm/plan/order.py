# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order machines are changed, and which are left alone when others fail; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec


class Order(msgspec.Struct, frozen=True):
    """How the user wants machines to take turns.

    AT_ONCE: so many are changed at a time, the next ones only when these are ready; None for
    as many as there are.  ALL_OR_NOTHING: if one fails, those that were changed go back.
    """

    at_once: int | None = None
    all_or_nothing: bool = False

    @property
    def stops(self) -> bool:
        """Whether no other machine is begun with after one has failed."""
        return self.at_once is not None or self.all_or_nothing


class Turn(msgspec.Struct, frozen=True):
    """MACHINE is begun with when those that it REQUIRES are ready.

    Unless it CHANGES, there is nothing to do: it waits for nobody, and nobody for it.
    """

    machine: str
    requires: tuple[str, ...] = ()
    changes: bool = True


class Next(msgspec.Struct, frozen=True):
    """The machines whose turn it is NOW, and those that are LEFT as they are, with the reason."""

    now: tuple[str, ...]
    left: Mapping[str, str]


def next_turns(
    turns: Sequence[Turn], begun: Collection[str], ended: Mapping[str, bool], order: Order
) -> Next:
    """Return what comes after some of TURNS were BEGUN, of which some ENDED, well or not."""
    left = _left(turns, begun, ended, order)
    settled = {*ended, *left, *(turn.machine for turn in turns if not turn.changes)}
    known = {turn.machine for turn in turns}
    waiting = [t for t in turns if t.machine not in begun and t.machine not in left]
    idle = [turn.machine for turn in waiting if not turn.changes]
    # What is required and not asked for is taken for granted.
    able = [
        turn.machine for turn in waiting if turn.changes and (known & {*turn.requires}) <= settled
    ]
    if order.at_once is not None:
        going_on = any(t.machine in begun and t.machine not in settled for t in turns)
        able = [] if going_on else able[: order.at_once]
    return Next((*idle, *able), left)


def _left(
    turns: Sequence[Turn], begun: Collection[str], ended: Mapping[str, bool], order: Order
) -> dict[str, str]:
    """Return the machines that are not to be begun with any more, and why."""
    failed = [machine for machine, well in ended.items() if not well]
    waiting = [turn for turn in turns if turn.changes and turn.machine not in begun]
    left: dict[str, str] = {}
    if failed and order.stops:
        left = {turn.machine: f"'{failed[0]}' failed before" for turn in waiting}
    lost, more = {*failed}, True
    while more:
        more = False
        for turn in waiting:
            missing = [name for name in turn.requires if name in lost]
            if missing and turn.machine not in lost:
                word = "failed" if missing[0] in failed else "was left as it is"
                left[turn.machine] = f"'{missing[0]}', which it requires, {word}"
                lost.add(turn.machine)
                more = True
    return left
