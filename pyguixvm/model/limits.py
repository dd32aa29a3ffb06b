# SPDX-License-Identifier: GPL-3.0-or-later
"""How large disks may be.  All sizes are bytes."""

from __future__ import annotations

from typing import NoReturn

from pyguixvm.errors import EvaluationError
from pyguixvm.model.declaration import DataDisk, VirtualMachine
from pyguixvm.model.image import SystemImage
from pyguixvm.model.sizes import format_size

# A sector has a number of 32 bits in an MBR, and so has the count of a partition's.
LARGEST_MBR_DISK = (2**32 - 1) * 512
# A table of 32 MiB (QCOW_MAX_L1_SIZE in QEMU's block/qcow2.h) leads to tables of one
# cluster, 64 KiB; each of its entries is 8 bytes, and each of theirs leads to a cluster.
LARGEST_QCOW2 = 32 * 1024**2 // 8 * (65536 // 8) * 65536

# As people write it.
_ROUND = "(storage 2047G)"


def above_mbr(size: int) -> str | None:
    """Say that a disk of SIZE is larger than its MBR can describe, if it is."""
    if size <= LARGEST_MBR_DISK:
        return None
    return (
        f"the storage of {format_size(size)} ({size} bytes) is more than a partition table of"
        f" type MBR can describe, {LARGEST_MBR_DISK} bytes"
    )


def check_storage(machine: VirtualMachine) -> None:
    """Raise EvaluationError if it is known already that disks of MACHINE cannot come about."""
    disks = [disk for disk in machine.domain.disks if isinstance(disk, DataDisk)]
    sizes = {f"disk '{disk.name}'": disk.size for disk in disks}
    for what, size in ({"storage": machine.domain.storage} | sizes).items():
        if size > LARGEST_QCOW2:
            _refuse(
                machine,
                f"the {what} of {format_size(size)} ({size} bytes) is more than an image can have",
                hint=f"Declare at most {format_size(LARGEST_QCOW2)}.",
            )
    image = machine.image
    if isinstance(image, SystemImage) and image.image_type == "mbr-hybrid-raw":
        above = above_mbr(machine.domain.storage)
        if above is not None:
            _refuse(
                machine,
                above,
                hint=f"Declare at most {_ROUND}; or declare (firmware 'uefi), and"
                " grub-efi-bootloader in the operating-system, and it has a GPT.",
            )


def _refuse(machine: VirtualMachine, message: str, *, hint: str) -> NoReturn:
    raise EvaluationError(
        f"machine '{machine.name}': {message}", hint=hint, location=str(machine.location)
    )
