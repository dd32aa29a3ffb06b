# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to a new operating system."""

from __future__ import annotations

import msgspec

from pyguixvm.plan.actions import Action
from pyguixvm.plan.plan import Taken


class Way(msgspec.Struct, frozen=True):
    """The ACTIONS that make a new root volume; STRATEGY is their name, REASON why they are it."""

    actions: tuple[Action, ...]
    strategy: Taken
    reason: str
