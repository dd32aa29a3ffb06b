# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes within the operating system of a machine."""

from __future__ import annotations

from pyguixvm.guix.compare_systems import system_changes
from pyguixvm.model.system_change import SystemChange
from pyguixvm.plan.plan import MachinePlan


def changes_within(plan: MachinePlan) -> tuple[SystemChange, ...]:
    """Return what comes, goes and changes with the operating system of PLAN, as far as known.

    Nothing is known of a system whose derivation is not in this machine's store any more.
    """
    for difference in plan.differences:
        if difference.path in _SYSTEM:
            return system_changes(str(difference.old), str(difference.new))
    return ()


# The derivation of the system in an image that Guix makes, and of one that needs none.
_SYSTEM = ("image.system", "image.system.derivation")
