# SPDX-License-Identifier: GPL-3.0-or-later
"""How large disks may be.  All sizes are bytes."""

from __future__ import annotations

from pyguixvm.model.sizes import format_size

# A sector has a number of 32 bits in an MBR, and so has the count of a partition's.
LARGEST_MBR_DISK = (2**32 - 1) * 512


def above_mbr(size: int) -> str | None:
    """Say that a disk of SIZE is larger than its MBR can describe, if it is."""
    if size <= LARGEST_MBR_DISK:
        return None
    return (
        f"the storage of {format_size(size)} ({size} bytes) is more than a partition table of"
        f" type MBR can describe, {LARGEST_MBR_DISK} bytes"
    )
