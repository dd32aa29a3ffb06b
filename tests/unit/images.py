# SPDX-License-Identifier: GPL-3.0-or-later
"""Small real disk images, made with the tools that make large ones."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

from pyguixvm.digest.content import content_of
from pyguixvm.image import extents
from pyguixvm.image.filesystem import read_file
from pyguixvm.image.partition import Partition, read
from pyguixvm.process import run

MIB = 1024**2


def make_image(
    directory: Path,
    *,
    label: str = "dos",
    root_size: int = 24 * MIB,
    options: Sequence[str] = ("-O", "^metadata_csum,^64bit", "-b", "1024"),
    junk: bool = False,
) -> Path:
    """Return an image in DIRECTORY as Guix lays them out: an ESP, then an ext4 root with files.

    With JUNK, the free blocks of the root hold what was there before, as on a disk in use.
    """
    return _copied(_ext4_image(label, root_size, tuple(options), junk=junk), directory)


@cache
def _ext4_image(label: str, root_size: int, options: tuple[str, ...], *, junk: bool) -> Path:
    directory = _kept()
    root = directory / "root"
    root.write_bytes(b"\xaa" * root_size if junk else b"")
    with root.open("r+b") as file:
        file.truncate(root_size)
    keep = ["-E", "nodiscard,lazy_itable_init=0"] if junk else []
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-L", "Guix_image", *keep, *options]
    run([*mke2fs, "-d", str(_contents(directory)), str(root)])
    return _around(root, label)


def make_system_image(directory: Path, items: Mapping[str, int]) -> Path:
    """Make a raw image whose root has what an increment replaces, and lists ITEMS.

    ITEMS are the file names of store items with their sizes; /gnu/store has none of them.
    """
    contents = directory / "system"
    for name in ("gnu/store", "var/guix/db", "var/guix/profiles", "boot/grub"):
        (contents / name).mkdir(parents=True)
    schema = """
        create table ValidPaths (
            id integer primary key autoincrement not null, path text unique not null,
            hash text not null, registrationTime integer not null, deriver text,
            narSize integer);
        create table Refs (
            referrer integer not null, reference integer not null,
            primary key (referrer, reference),
            foreign key (referrer) references ValidPaths(id) on delete cascade,
            foreign key (reference) references ValidPaths(id) on delete restrict);
    """
    with closing(sqlite3.connect(contents / "var/guix/db/db.sqlite")) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(schema)
        connection.executemany(
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?, '', 1, ?)",
            items.items(),
        )
        connection.commit()
    (contents / "var/guix/profiles/system").symlink_to("system-1-link")
    (contents / "var/guix/profiles/system-1-link").symlink_to("/gnu/store/old-system")
    (contents / "boot/grub/grub.cfg").write_text("old")
    root = directory / "root"
    with root.open("wb") as file:
        file.truncate(24 * MIB)
    options = ["-O", "^metadata_csum,^64bit", "-b", "1024", "-L", "Guix_image"]
    run(["mke2fs", "-q", "-t", "ext4", *options, "-d", str(contents), str(root)])
    # As make-ext-image does in Guix: large directories get an index.
    run(["e2fsck", "-fDy", str(root)], check=False)
    return _around(root, "dos")


def make_btrfs_image(directory: Path, *, label: str = "gpt", options: Sequence[str] = ()) -> Path:
    """Return an image in DIRECTORY as Guix lays them out: an ESP, then a btrfs root with files."""
    return _copied(_btrfs_image(label, tuple(options)), directory)


@cache
def _btrfs_image(label: str, options: tuple[str, ...]) -> Path:
    return _around(make_btrfs(_kept(), options=options), label)


def make_btrfs(directory: Path, *, options: Sequence[str] = ()) -> Path:
    """Return a btrfs in DIRECTORY with a few files, made as Guix makes one (make-btrfs-image)."""
    return _copied(_btrfs(tuple(options)), directory)


@cache
def _btrfs(options: tuple[str, ...]) -> Path:
    directory = _kept()
    return btrfs_of(_contents(directory), directory / "root", options)


def btrfs_of(contents: Path, root: Path, options: Sequence[str] = ()) -> Path:
    """Make the file ROOT a btrfs that holds CONTENTS, and return it."""
    root.touch()
    mkfs = ["mkfs.btrfs", "-q", "-L", "Guix_image", "--shrink", *options]
    run([*mkfs, "-r", str(contents), str(root)])
    return root


@cache
def _all_kept() -> Path:
    """Return a directory that is there as long as this process is."""
    directory = tempfile.mkdtemp(prefix="images-")
    atexit.register(shutil.rmtree, directory)
    return Path(directory)


def _kept() -> Path:
    """Return a directory for an image that is made once, and copied for each test."""
    return Path(tempfile.mkdtemp(dir=_all_kept()))


def _copied(made: Path, directory: Path) -> Path:
    """Return a copy of the file MADE, of its mode, in DIRECTORY."""
    copy = directory / made.name
    extents.copy_sparse(made, copy)
    copy.chmod(made.stat().st_mode)
    return copy


def _contents(directory: Path) -> Path:
    contents = directory / "contents"
    for number in range(200):
        file = contents / f"gnu/store/item-{number % 10}/file-{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.sha256(str(number).encode()).digest() * (number * 4 + 1))
    return contents


def _around(root: Path, label: str) -> Path:
    """Make a raw image whose second and last partition holds ROOT."""
    root_size = root.stat().st_size
    image = root.with_name("image")
    with image.open("wb") as file_:
        file_.truncate(3 * MIB + root_size + (MIB if label == "gpt" else 0))
        with root.open("rb") as source:
            extents.copy(source, file_, extents.data(source), 3 * MIB)
        file_.seek(MIB)
        file_.write(b"esp" * 100)
    types = ("U", "L")
    table = f"label: {label}\n2048,4096,{types[0]}\n6144,{root_size // 512},{types[1]}\n"
    run(["sfdisk", "-q", "--no-tell-kernel", str(image)], stdin=table.encode())
    image.chmod(0o444)
    return image


def digest(path: Path) -> str:
    """Return a digest of what the file PATH, which may be large and mostly holes, reads as."""
    with path.open("rb") as file:
        return content_of(file).digest


def last_partition(raw: Path) -> Partition:
    return read(raw).last


def check_file_system(raw: Path, where: Partition) -> None:
    """Raise unless the file system at WHERE in RAW has no error."""
    alone = _partition(raw, where)
    if read_file(alone).type == "btrfs":
        run(["btrfs", "check", "--readonly", "--check-data-csum", str(alone)])
    else:
        run(["e2fsck", "-fn", str(alone)])


def files(raw: Path, where: Partition) -> dict[str, bytes]:
    """Return the content of every file of the file system at WHERE in RAW, by name."""
    alone = _partition(raw, where)
    target = raw.with_name(f"{raw.name}.files")
    target.mkdir()
    if read_file(alone).type == "btrfs":
        run(["btrfs", "restore", str(alone), str(target)])
    else:
        run(["debugfs", "-R", f"rdump / {target}", alone.name], directory=alone.parent)
    return {
        str(file.relative_to(target)): file.read_bytes()
        for file in sorted(target.rglob("*"))
        if file.is_file()
    }


def _partition(raw: Path, where: Partition) -> Path:
    """Return a file that is the partition WHERE of RAW alone."""
    alone = raw.with_name("alone")
    with raw.open("rb") as source, alone.open("wb") as target:
        content = extents.intersection(extents.data(source), [(where.offset, where.end)])
        extents.copy(source, target, content, -where.offset)
        target.truncate(where.size)
    return alone
