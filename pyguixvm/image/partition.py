# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables, as sfdisk reads and writes them (sfdisk(8), util-linux)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from pyguixvm import process
from pyguixvm.errors import RequestRefusedError

_PACKAGE_HINT = "Install util-linux (Debian has sfdisk in its package fdisk)."

# The last sectors of a GPT disk hold a copy of its table: 32 for the entries, one for the header.
GPT_BACKUP_SECTORS = 33


class Partition(msgspec.Struct, frozen=True):
    """A partition; NUMBER counts from 1, OFFSET and SIZE are bytes, TYPE is sfdisk's."""

    number: int
    offset: int
    size: int
    type: str

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


class PartitionTable(msgspec.Struct, frozen=True):
    """The partitions of a disk, in the order of their numbers."""

    label: Literal["dos", "gpt"]
    sector_size: int
    partitions: tuple[Partition, ...]

    @property
    def last(self) -> Partition:
        """The partition that ends last: the only one with room behind it."""
        return max(self.partitions, key=lambda partition: partition.offset)


class _Entry(msgspec.Struct):
    node: str
    start: int
    size: int
    type: str


class _Dump(msgspec.Struct):
    label: str
    device: str
    sectorsize: int = 512
    partitions: list[_Entry] = []


class _Sfdisk(msgspec.Struct):
    partitiontable: _Dump


# MBR types of a container for logical partitions, which would have to grow with the last of them.
_EXTENDED = frozenset({"5", "f", "85"})


def parse(dump: bytes) -> PartitionTable:
    """Return the table that DUMP, the output of ``sfdisk --json``, describes.

    Raises RequestRefusedError for a table that cannot be grown.
    """
    table = msgspec.json.decode(dump, type=_Sfdisk).partitiontable
    if table.label not in {"dos", "gpt"}:
        raise RequestRefusedError(
            f"the partition table of {table.device} is of type '{table.label}'",
            hint="Only 'dos' and 'gpt' can be grown.",
        )
    if not table.partitions:
        raise RequestRefusedError(f"{table.device} has no partitions that could grow")
    if table.label == "dos" and any(entry.type in _EXTENDED for entry in table.partitions):
        raise RequestRefusedError(f"{table.device} has logical partitions, which cannot be grown")
    return PartitionTable(
        label="dos" if table.label == "dos" else "gpt",
        sector_size=table.sectorsize,
        partitions=tuple(_partition(entry, table) for entry in table.partitions),
    )


def _partition(entry: _Entry, table: _Dump) -> Partition:
    # The node is the device's name with the number, after a "p" if the name ends in a digit.
    number = entry.node.removeprefix(table.device).removeprefix("p")
    return Partition(
        number=int(number),
        offset=entry.start * table.sectorsize,
        size=entry.size * table.sectorsize,
        type=entry.type,
    )


def read(path: Path) -> PartitionTable:
    """Return the partition table of the raw image at PATH.

    Raises RequestRefusedError if it has none, or one that cannot be grown.
    """
    done = _sfdisk("--json", "--", str(path), check=False)
    if done.status != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise RequestRefusedError(
            f"the image has no partition table that could grow: {reason}",
            hint="Declare as much storage as the image has, and grow what it holds in the guest.",
        )
    return parse(done.stdout)


def grow_last(path: Path) -> Partition:
    """Let the last partition of the raw image at PATH reach to its end; return it as it is then.

    For a GPT, the copy of the table moves to the end of the image.  Raises
    RequestRefusedError and CommandFailedError.
    """
    last = read(path).last
    options = ["--no-reread", "--no-tell-kernel", "--wipe=never", "--wipe-partitions=never"]
    # An empty start keeps the partition where it is; "+" takes all the room behind it.
    _sfdisk("--quiet", *options, "-N", str(last.number), "--", str(path), stdin=b", +\n")
    return read(path).last


def _sfdisk(*arguments: str, stdin: bytes | None = None, check: bool = True) -> process.Completed:
    program = process.which("sfdisk", _PACKAGE_HINT)
    return process.run([str(program), *arguments], stdin=stdin, check=check)
