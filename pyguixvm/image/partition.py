# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables, as sfdisk reads and writes them (sfdisk(8), util-linux)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.decoding import decode
from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.overlay import ImageError
from pyguixvm.model.limits import above_mbr

_PACKAGE_HINT = "Install util-linux (Debian has sfdisk in its package fdisk)."

# The last sectors of a GPT disk hold a copy of its table: 32 for the entries, one for the header.
GPT_BACKUP_SECTORS = 33
# Where sfdisk lets partitions begin and end, if it has the choice (bytes).
_ALIGNMENT = 1024**2


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


_HINT = "Declare as much storage as the image has, and grow what it holds in the guest."


# MBR types of a container for logical partitions, which would have to grow with the last of them.
_EXTENDED = frozenset({"5", "f", "85"})


def parse(dump: bytes) -> PartitionTable:
    """Return the table that DUMP, the output of ``sfdisk --json``, describes.

    Raises RequestRefusedError for a table that cannot be grown.
    """
    try:
        table = decode(dump, _Sfdisk).partitiontable
    except msgspec.MsgspecError as error:
        # Of an entry that makes no sense, sfdisk says less than of others.
        raise _damaged(str(error)) from error
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
    done = _sfdisk("--json", "--", str(path), confined=Confinement(reads=(path,)), check=False)
    if done.status != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise RequestRefusedError(
            f"the image has no partition table that could grow: {reason}", hint=_HINT
        )
    table = parse(done.stdout)
    size = path.stat().st_size
    for each in table.partitions:
        if each.end > size:
            raise _damaged(f"partition {each.number} ends at {each.end}, and the image at {size}")
    return table


def _damaged(reason: str) -> RequestRefusedError:
    return RequestRefusedError(f"the partition table of the image is damaged: {reason}", hint=_HINT)


def grow_last(path: Path) -> Partition:
    """Let the last partition of the raw image at PATH reach to its end; return it as it is then.

    For a GPT, the copy of the table moves to the end of the image.  Raises
    RequestRefusedError if it is too large for its table, and before anything is
    written; CommandFailedError and ImageError.
    """
    table = read(path)
    size = path.stat().st_size
    if table.label == "dos":
        _require_describable(size)
    options = ["--no-reread", "--no-tell-kernel", "--wipe=never", "--wipe-partitions=never"]
    # An empty start keeps the partition where it is; "+" takes all the room behind it.
    _sfdisk(
        *("--quiet", *options, "-N", str(table.last.number), "--", str(path)),
        confined=Confinement(writes=(path,)),
        stdin=b", +\n",
    )
    grown = read(path)
    _verify(table, grown, size)
    return grown.last


def _require_describable(size: int) -> None:
    # Of more, sfdisk writes the remainder, and says that it is done.
    above = above_mbr(size)
    if above is not None:
        raise RequestRefusedError(
            above,
            hint="Declare at most (storage 2047G), or take an image with a GPT, as Guix makes it"
            " for (firmware 'uefi).",
        )


def _verify(before: PartitionTable, grown: PartitionTable, size: int) -> None:
    """Raise ImageError unless GROWN is the table BEFORE, grown in an image of SIZE bytes."""
    tail = GPT_BACKUP_SECTORS * before.sector_size if before.label == "gpt" else 0
    end = size - size % before.sector_size - tail
    last = msgspec.structs.replace(before.last, size=grown.last.size)
    wanted = tuple(last if one == before.last else one for one in before.partitions)
    if grown.partitions != wanted or not end - _ALIGNMENT < grown.last.end <= end:
        raise ImageError(
            f"sfdisk grew partition {last.number} to {grown.last.size} bytes from"
            f" {grown.last.offset} on, where the image ends at {size}"
        )


def _sfdisk(
    *arguments: str, confined: Confinement, stdin: bytes | None = None, check: bool = True
) -> process.Completed:
    program = process.which("sfdisk", _PACKAGE_HINT)
    return process.run([str(program), *arguments], stdin=stdin, check=check, confined=confined)
