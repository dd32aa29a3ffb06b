# SPDX-License-Identifier: GPL-3.0-or-later
"""Store items for a guest that runs, in one file: a tar archive, which needs no file system.

Beside the items, below ``store/``, it has ``closure``, the names of all that is to be in the
guest's store afterwards, and ``registration``, which guix/pyguixvm/build/registration.scm reads.
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.store_item import StoreItem, mode_in_a_store
from pyguixvm.printable import printable


def pack(file: Path, items: Sequence[StoreItem], closure: Iterable[str]) -> None:
    """Make FILE of ITEMS, which are in this machine's store, for a guest that has CLOSURE then.

    Raises OSError if one of them cannot be read, RequestRefusedError if it is no store item.
    """
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, "closure", "".join(f"{each}\n" for each in closure))
        _add(archive, "registration", registration(items))
        for item in items:
            name = PurePosixPath(item.path).name
            archive.add(item.path, f"store/{name}", filter=_as_in_a_store)


def registration(items: Iterable[StoreItem]) -> str:
    """Return what tells of ITEMS, as Scheme reads it: a list of file, hash, size, references."""
    lines = (
        f'("{item.path}" "{item.hash}" {item.nar_size} ({" ".join(map(_quoted, item.references))}))'
        for item in items
    )
    return f"({' '.join(lines)})\n"


def _quoted(path: str) -> str:
    # No store item's name has what would have to be escaped.
    return f'"{path}"'


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o444
    archive.addfile(entry, io.BytesIO(content))


def _as_in_a_store(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise RequestRefusedError(
            f"{printable(entry.name)} of a store item is no file, directory or symbolic link",
            hint="See what is in the store with 'guix gc --verify=contents'.",
        )
    kind = stat.S_IFDIR if entry.isdir() else stat.S_IFLNK if entry.issym() else stat.S_IFREG
    entry.mode = stat.S_IMODE(mode_in_a_store(kind | entry.mode))
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    # As "canonicalize" of Guix's (guix store) has it.
    entry.mtime = 1
    return entry
