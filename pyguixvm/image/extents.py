# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of bytes: sets of them, where a sparse file has data, where two files differ."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.sizes import format_size
from pyguixvm.sparse_file import data_ranges

# The first byte, and the first one behind it.
Range: TypeAlias = tuple[int, int]

_CHUNK = 1 << 20
# Files are compared by sectors: no disk and no file system writes less.
_SECTOR = 512


def union(*sets: Iterable[Range]) -> tuple[Range, ...]:
    """Return the bytes that are in any of SETS, in order, without overlap."""
    merged: list[Range] = []
    for start, end in sorted(one for ranges in sets for one in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return tuple(merged)


def difference(left: Iterable[Range], right: Iterable[Range]) -> tuple[Range, ...]:
    """Return the bytes of LEFT that are not in RIGHT, in order, without overlap."""
    remaining: list[Range] = []
    holes = iter((*union(right), (_BEYOND, _BEYOND)))
    hole = next(holes)
    for start, end in union(left):
        at = start
        while at < end:
            while hole[1] <= at:
                hole = next(holes)
            if at < hole[0]:
                remaining.append((at, min(end, hole[0])))
            at = hole[1] if hole[0] < end else end
    return tuple(remaining)


_BEYOND = 1 << 64


def chunks(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield RANGES in pieces of at most 1 MiB."""
    for start, end in ranges:
        for at in range(start, end, _CHUNK):
            yield at, min(at + _CHUNK, end)


def data(file: BinaryIO) -> tuple[Range, ...]:
    """Return where FILE is no hole: more than that, but never less."""
    return tuple(data_ranges(file))


# What copy_file_range(2) says between two file systems, or where one cannot do it.
_CANNOT_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def copy(source: BinaryIO, target: BinaryIO, where: Iterable[Range], to: int = 0) -> None:
    """Copy the ranges WHERE of SOURCE to the same places of TARGET, moved by TO bytes.

    Where both are on one file system that can, they share the bytes afterwards.
    """
    for start, end in where:
        at = start
        while at < end:
            count = _copy_some(source.fileno(), target.fileno(), (at, end), to)
            if count == 0:
                break
            at += count


def _copy_some(source: int, target: int, where: Range, to: int) -> int:
    start, end = where
    try:
        return os.copy_file_range(source, target, end - start, start, start + to)
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    return os.pwrite(target, os.pread(source, min(end - start, _CHUNK), start), start + to)


def set_size(path: Path, size: int) -> None:
    """Let the file PATH, which is made if need be, have SIZE bytes; what is added are holes.

    Raises RequestRefusedError if no file can be so large there.
    """
    try:
        with path.open("ab") as file:
            file.truncate(size)
    except OSError as error:
        if error.errno not in {errno.EFBIG, errno.EINVAL}:
            raise
        raise RequestRefusedError(
            f"no file in {path.parent} can have {format_size(size)} ({size} bytes), as it takes"
            " to make such a disk",
            hint="Declare less, or set TMPDIR to a directory of a file system that has files so"
            " large (btrfs, XFS).",
        ) from error


def copy_sparse(source: Path, target: Path) -> None:
    """Copy the file SOURCE to TARGET, holes as holes."""
    with source.open("rb") as old, target.open("wb") as new:
        new.truncate(source.stat().st_size)
        copy(old, new, data(old))


def intersection(left: Iterable[Range], right: Iterable[Range]) -> tuple[Range, ...]:
    """Return the bytes that are in both LEFT and RIGHT, in order, without overlap."""
    left = union(left)
    return difference(left, difference(left, right))


def read(file: BinaryIO, where: Range) -> bytes:
    """Return the bytes of FILE in WHERE; what is behind its end reads as zeros."""
    start, end = where
    found = os.pread(file.fileno(), end - start, start)
    return found + bytes(end - start - len(found))


def differences(left: BinaryIO, right: BinaryIO) -> tuple[Range, ...]:
    """Return where the sparse files LEFT and RIGHT differ, in whole sectors."""
    found: list[Range] = []
    for start, end in chunks(union(data(left), data(right))):
        one, other = read(left, (start, end)), read(right, (start, end))
        if one == other:
            continue
        found += [
            (start + at, min(start + at + _SECTOR, end))
            for at in range(0, end - start, _SECTOR)
            if one[at : at + _SECTOR] != other[at : at + _SECTOR]
        ]
    return union(found)
