# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing an image: volume, last partition and file system, without writing to it.

The result is always a qcow2 overlay that stands on the image and holds only
what growing changed, some megabytes.  There are three ways to it, none of
which needs root:

fuse
    on the overlay itself, shown as a raw file by QEMU, if it was built with that;
    on a raw image, for what mounts cannot be bound (`confinement`), and of such a one it
    understands nothing that could break it;
metadata
    on a copy of the file system's metadata; in a raw image;
copy
    on a sparse copy of the whole image, or on a reflink where the file system
    of the work directory can; takes space and time for each gigabyte.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.errors import PyguixvmError, RequestRefusedError, UsageError
from pyguixvm.events import Emit, Notice
from pyguixvm.image import (
    ext4_metadata,
    extents,
    filesystem,
    fuse,
    nbd,
    overlay,
    partition,
    scratch,
)
from pyguixvm.image.ext4_metadata import Edit
from pyguixvm.image.extents import Range
from pyguixvm.image.workplace import workplace
from pyguixvm.model.sizes import format_size, written_size

Method: TypeAlias = Literal["none", "metadata", "fuse", "copy"]

# Forces a method; for tests and measurements.
METHOD_VARIABLE = "PYGUIXVM_GROW"


class Grown(msgspec.Struct, frozen=True):
    """OVERLAY shows SIZE bytes; METHOD is how it was grown, "none" if it did not have to be."""

    overlay: Path
    size: int
    method: Method


def grow(
    base: Path,
    base_format: str,
    overlay_file: Path,
    size: int,
    *,
    emit: Emit,
    machine: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Grown:
    """Make OVERLAY_FILE, a qcow2 image of SIZE bytes: the image BASE, grown.

    BASE is never written.  Nothing is left behind when this fails or is
    interrupted.  Raises RequestRefusedError if BASE is larger than SIZE, or
    holds what cannot be grown; ImageError and CommandFailedError.
    """
    have = require_room(base, base_format, size)
    with new_overlay(base, base_format, overlay_file, size) as directory:
        if size == have:
            return Grown(overlay_file, size, "none")

        def grow_by(method: Method) -> Grown:
            if method == "copy":
                _warn(_copied(have, base_format), emit, machine)
            _METHODS[method](base, base_format, overlay_file, size, directory)
            return Grown(overlay_file, size, method)

        try:
            return grow_by(_choose(base, base_format, size, environment))
        except fuse.CannotMountError as error:
            if environment.get(METHOD_VARIABLE):
                raise
            _warn(f"the image is grown without FUSE, since {error.message}", emit, machine)
            # What may be written already is what the other ways write, too.
            return grow_by(_without_fuse(base, base_format, size))


def require_room(base: Path, base_format: str, size: int) -> int:
    """Return the size (bytes) of the image BASE; raise RequestRefusedError if SIZE is less."""
    have = overlay.inspect(base, base_format).virtual_size
    if size < have:
        raise RequestRefusedError(
            f"the storage of {format_size(size)} ({size} bytes) is smaller than the image"
            f" {base} of {format_size(have)} ({have} bytes)",
            hint=f"Declare at least (storage {_whole_megabytes(have)}).",
        )
    return have


@contextmanager
def new_overlay(base: Path, base_format: str, overlay_file: Path, size: int) -> Iterator[Path]:
    """Make OVERLAY_FILE, of SIZE bytes, which shows BASE and goes again if the body fails.

    Yield a directory for what the body makes meanwhile.
    """
    try:
        overlay.create(base, base_format, overlay_file, size)
        # Beside the overlay: there is room for an image, and a reflink can be made.
        with workplace(overlay_file.absolute().parent) as directory:
            yield directory
        overlay.finish(overlay_file, base)
    except BaseException:
        overlay_file.unlink(missing_ok=True)
        raise


def _choose(base: Path, base_format: str, size: int, environment: Mapping[str, str]) -> Method:
    forced = environment.get(METHOD_VARIABLE)
    if forced:
        for method in _METHODS:
            if forced == method:
                return method
        raise UsageError(
            f"{METHOD_VARIABLE} is '{forced}'", hint=f"It may be {', '.join(_METHODS)}."
        )
    # The fastest first.
    if base_format == "raw" and fuse.available():
        return "fuse"
    return _without_fuse(base, base_format, size)


def _without_fuse(base: Path, base_format: str, size: int) -> Method:
    return "metadata" if ext4_metadata.suits(base, base_format, size) else "copy"


def _whole_megabytes(size: int) -> str:
    return written_size(-(-size // 1024**2) * 1024**2)


def _copied(have: int, base_format: str) -> str:
    without = "QEMU with FUSE exports (Debian's)" if base_format == "raw" else "a raw image"
    return (
        f"the image is grown on a whole copy of it ({format_size(have)}), which takes"
        f" time and space; {without} does without"
    )


def _warn(message: str, emit: Emit, machine: str | None) -> None:
    emit(Notice(message=message, machine=machine, warning=True))


def _on_metadata(
    base: Path, _base_format: str, overlay_file: Path, size: int, directory: Path
) -> None:
    _in_memory(directory, lambda work: _by_metadata(base, overlay_file, size, work, None))


def edited(  # noqa: PLR0917 -- from what, to what, and how
    base: Path, overlay_file: Path, size: int, edit: Edit, written: int, directory: Path
) -> None:
    """Write to OVERLAY_FILE, which shows the raw BASE, what grows it to SIZE and EDIT changes.

    The last partition holds an ext4.  EDIT writes about WRITTEN bytes of data, in
    a file of DIRECTORY if they are many; it may be called twice, with a new file.
    Raises RequestRefusedError and CommandFailedError.
    """

    def work(place: Path) -> None:
        _by_metadata(base, overlay_file, size, place, edit)

    if written <= _FITS_IN_MEMORY:
        _in_memory(directory, work)
    else:
        with workplace(directory) as place:
            work(place)


def _by_metadata(base: Path, overlay_file: Path, size: int, work: Path, edit: Edit | None) -> None:
    table, grown = scratch.grow_table(base, size, work)
    root = ext4_metadata.grow(base, partition.read(base).last, grown.size, work, edit)
    _transplant([root, table], overlay_file, base)


_FITS_IN_MEMORY = 256 * 1024**2


# A container's is often of 64 MiB; less than this is left of one that was too small (bytes).
_FULL = 1024**2


def _in_memory(otherwise: Path, work: Callable[[Path], None]) -> None:
    """Have WORK done in memory, where the tools' flushing to disk costs nothing.

    Without enough of it, in the directory OTHERWISE.
    """
    shared = Path("/dev/shm")  # noqa: S108 -- the directory made there is private
    if os.access(shared, os.W_OK | os.X_OK):
        with workplace(shared) as place:
            try:
                work(place)
            except (PyguixvmError, OSError):
                # The tools say in many ways that there was no room.
                left = os.statvfs(place)
                if left.f_bavail * left.f_frsize >= _FULL:
                    raise
            else:
                return
    with workplace(otherwise) as place:
        work(place)


def _on_fuse(
    _base: Path, _base_format: str, overlay_file: Path, _size: int, directory: Path
) -> None:
    with fuse.mounted(overlay_file, directory) as raw:
        # Refused before anything is written, if it has to be.
        filesystem.read(raw, partition.read(raw).last)
        grown = partition.grow_last(raw)
    with fuse.mounted(overlay_file, directory, grown) as raw:
        filesystem.grow(raw)


def _on_copy(base: Path, base_format: str, overlay_file: Path, size: int, directory: Path) -> None:
    raw = base
    if base_format != "raw":
        raw = directory / "raw"
        overlay.convert_to_raw(base, base_format, raw)
    last = partition.read(raw).last
    filesystem.read(raw, last)
    table, grown = scratch.grow_table(raw, size, directory)
    copy = scratch.copy_partition(raw, last, grown.size, directory)
    with copy.open("rb") as file:
        before = extents.data(file)
        filesystem.grow(copy)
        # What was data and is a hole now was zeroed.
        where = extents.union(before, extents.data(file))
    _transplant([scratch.Piece(copy, grown.offset, where), table], overlay_file, base)


def _transplant(pieces: Iterable[scratch.Piece], overlay_file: Path, base: Path) -> None:
    """Write PIECES to OVERLAY_FILE, which stands on BASE, where they differ from what is there."""
    with nbd.exported(overlay_file, base) as export:
        for piece in pieces:
            with piece.file.open("rb") as file:
                for start, end in extents.chunks(piece.where):
                    content = extents.read(file, (start, end))
                    present = export.read(piece.offset + start, end - start)
                    for at, behind in _unequal(content, present):
                        export.write(piece.offset + start + at, content[at:behind])


# A cluster of qcow2: QEMU would complete less than that from the base.
_CLUSTER = 65536


def _unequal(left: bytes, right: bytes) -> tuple[Range, ...]:
    """Return where LEFT and RIGHT, of the same size, differ, in clusters."""
    if left == right:
        return ()
    return extents.union(
        (at, min(at + _CLUSTER, len(left)))
        for at in range(0, len(left), _CLUSTER)
        if left[at : at + _CLUSTER] != right[at : at + _CLUSTER]
    )


_METHODS: dict[Method, Callable[[Path, str, Path, int, Path], None]] = {
    "metadata": _on_metadata,
    "fuse": _on_fuse,
    "copy": _on_copy,
}
