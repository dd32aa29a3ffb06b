# SPDX-License-Identifier: GPL-3.0-or-later
"""A new disk: nothing but a labelled file system, without partition table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pyguixvm import process
from pyguixvm.image import overlay

_HINTS = {
    "ext4": "Install e2fsprogs.",
    "btrfs": "Install btrfs-progs.",
}
# One percent instead of five for root: on a disk for data it would only be missed.
_OPTIONS = {"ext4": ("-q", "-F", "-m", "1"), "btrfs": ("-q", "-f")}


def make_disk(
    path: Path, size: int, file_system: Literal["ext4", "btrfs"], label: str, directory: Path
) -> None:
    """Make the qcow2 image PATH of SIZE bytes that holds an empty FILE_SYSTEM with LABEL.

    DIRECTORY has room for what mkfs writes, some megabytes.  Raises
    CommandFailedError if mkfs refuses, and ImageError if qemu-img does.
    """
    raw = directory / f"{path.name}.raw"
    with raw.open("xb") as file:
        file.truncate(size)
    try:
        mkfs = process.which(f"mkfs.{file_system}", _HINTS[file_system])
        process.run([str(mkfs), *_OPTIONS[file_system], "-L", label, str(raw)])
        overlay.convert_to_qcow2(raw, path)
    finally:
        raw.unlink()
