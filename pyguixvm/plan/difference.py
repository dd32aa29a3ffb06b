# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted, defined and live, compared; pure."""

from __future__ import annotations

from collections.abc import Iterator

from pyguixvm.model.difference import Difference, Effect, Value

ABSENT = "absent"


def compare(
    path: str, wanted: Value, defined: Value, live: Value, effect: Effect = "restart"
) -> Iterator[Difference]:
    """Yield the difference of WANTED and what is DEFINED or LIVE, None if it does not run.

    Without a running guest, or if it has what is wanted, defining is enough.
    """
    if live is not None and live != wanted:
        pending = effect == "restart" and defined == wanted
        yield Difference(path=path, old=live, new=wanted, effect=effect, pending=pending)
    elif defined != wanted:
        yield Difference(path=path, old=defined, new=wanted, effect="live")
