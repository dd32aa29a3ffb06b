# SPDX-License-Identifier: GPL-3.0-or-later
"""Small real disk images, made with the tools that make large ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

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
    """Make a raw image as Guix lays them out: an ESP, then an ext4 root with a few files.

    With JUNK, the free blocks of the root hold what was there before, as on a disk in use.
    """
    contents = directory / "contents"
    for number in range(200):
        file = contents / f"gnu/store/item-{number % 10}/file-{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.sha256(str(number).encode()).digest() * (number * 4 + 1))
    root = directory / "root"
    root.write_bytes(b"\xaa" * root_size if junk else b"")
    with root.open("r+b") as file_:
        file_.truncate(root_size)
    keep = ["-E", "nodiscard,lazy_itable_init=0"] if junk else []
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-L", "Guix_image", *keep, *options]
    run([*mke2fs, "-d", str(contents), str(root)])
    image = directory / "image"
    with image.open("wb") as file_:
        file_.truncate(3 * MIB + root_size + (MIB if label == "gpt" else 0))
        file_.seek(3 * MIB)
        file_.write(root.read_bytes())
        file_.seek(MIB)
        file_.write(b"esp" * 100)
    types = ("U", "L")
    table = f"label: {label}\n2048,4096,{types[0]}\n6144,{root_size // 512},{types[1]}\n"
    run(["sfdisk", "-q", str(image)], stdin=table.encode())
    image.chmod(0o444)
    return image


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def last_partition(raw: Path) -> Partition:
    return read(raw).last


def check_file_system(raw: Path, where: Partition) -> None:
    """Raise unless the ext4 at WHERE in RAW has no error; on a copy of the partition alone."""
    alone = raw.with_name("alone")
    with raw.open("rb") as source, alone.open("wb") as target:
        source.seek(where.offset)
        target.write(source.read(where.size))
    run(["e2fsck", "-fn", str(alone)])


def files(raw: Path, where: Partition) -> dict[str, bytes]:
    """Return the content of every file of the ext4 at WHERE in RAW, by name."""
    target = raw.with_name(f"{raw.name}.files")
    target.mkdir()
    place = f"{raw.name}?offset={where.offset}"
    run(["debugfs", "-R", f"rdump / {target}", place], directory=raw.parent)
    return {
        str(file.relative_to(target)): file.read_bytes()
        for file in sorted(target.rglob("*"))
        if file.is_file()
    }
