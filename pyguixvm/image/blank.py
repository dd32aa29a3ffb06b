# SPDX-License-Identifier: GPL-3.0-or-later
"""A new disk: nothing but a labelled file system, without partition table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.image import debugfs, extents, overlay
from pyguixvm.model.volume_identity import HEADER_LENGTH, with_identity

_HINTS = {
    "ext4": "Install e2fsprogs.",
    "btrfs": "Install btrfs-progs.",
}
# One percent instead of five for root: on a disk for data it would only be missed.
_OPTIONS = {"ext4": ("-q", "-F", "-m", "1"), "btrfs": ("-q", "-f")}

# What neither the initial RAM disk nor activation makes of a root: the directories of
# "directives" in Guix's gnu/build/install.scm, with their modes ...
_DIRECTORIES = {
    "/bin": 0o755,
    "/etc": 0o755,
    "/gnu": 0o755,
    "/gnu/store": 0o755,
    "/home": 0o755,
    "/mnt": 0o755,
    "/tmp": 0o1777,  # noqa: S108 -- the guest's
    "/var": 0o755,
    "/var/db": 0o755,
    "/var/empty": 0o755,
    "/var/guix": 0o755,
    "/var/guix/gcroots": 0o755,
    "/var/guix/profiles": 0o755,
    "/var/guix/profiles/per-user": 0o755,
    "/var/guix/profiles/per-user/root": 0o755,
    "/var/lock": 0o1777,
    "/var/log": 0o755,
    "/var/tmp": 0o1777,  # noqa: S108 -- the guest's
}
# ... and its symbolic links.
_LINKS = {
    "/var/guix/gcroots/booted-system": "/run/booted-system",
    "/var/guix/gcroots/current-system": "/run/current-system",
    "/var/guix/gcroots/profiles": "/var/guix/profiles",
    "/var/guix/profiles/system": "system-1-link",
}


def make_disk(  # noqa: PLR0917 -- what it is to be, and where
    path: Path,
    size: int,
    file_system: Literal["ext4", "btrfs"],
    label: str,
    directory: Path,
    identity: str | None = None,
) -> None:
    """Make the qcow2 image PATH of SIZE bytes that holds an empty FILE_SYSTEM with LABEL.

    It is told from others by IDENTITY, a UUID, if there is one.  DIRECTORY has room for what
    mkfs writes, some megabytes.  Raises CommandFailedError if mkfs refuses, and ImageError if
    qemu-img does.
    """
    with _formatted(directory / f"{path.name}.raw", size, file_system, label) as raw:
        overlay.convert_to_qcow2(raw, path)
        if identity is not None:
            _identify(path, identity)
        overlay.finish(path)


def make_empty(path: Path, size: int, identity: str | None = None) -> None:
    """Make the qcow2 image PATH of SIZE bytes that holds nothing, with IDENTITY if there is one.

    Raises ImageError.
    """
    overlay.create_empty(path, size)
    if identity is not None:
        _identify(path, identity)


def _identify(path: Path, identity: str) -> None:
    with path.open("r+b") as image:
        header = image.read(HEADER_LENGTH)
        image.seek(0)
        try:
            image.write(with_identity(header, identity))
        except ValueError as error:
            raise overlay.ImageError(f"{path} cannot be told from others: {error}") from error


def make_root(path: Path, size: int, label: str, system: str, directory: Path) -> None:
    """Make the qcow2 image PATH of SIZE bytes: the root of a guest that has its store elsewhere.

    It is an ext4 with LABEL that holds what Guix expects of a root, and links to
    SYSTEM.  DIRECTORY is as for `make_disk`, and so is what is raised.
    """
    with _formatted(directory / f"{path.name}.raw", size, "ext4", label) as raw:
        debugfs.change(raw, _root(system))
        overlay.convert_to_qcow2(raw, path)
        overlay.finish(path)


def _root(system: str) -> Iterator[debugfs.Command]:
    for name, mode in _DIRECTORIES.items():
        yield from debugfs.directory(name, mode)
    for name, target in (_LINKS | {"/var/guix/profiles/system-1-link": system}).items():
        yield from debugfs.link(target, name)


@contextmanager
def _formatted(
    raw: Path, size: int, file_system: Literal["ext4", "btrfs"], label: str
) -> Iterator[Path]:
    """Yield the file RAW with an empty FILE_SYSTEM of SIZE bytes; it goes again."""
    raw.touch(exist_ok=False)
    try:
        extents.set_size(raw, size)
        mkfs = process.which(f"mkfs.{file_system}", _HINTS[file_system])
        process.run(
            [str(mkfs), *_OPTIONS[file_system], "-L", label, str(raw)],
            confined=Confinement(writes=(raw,)),
        )
        yield raw
    finally:
        raw.unlink()
