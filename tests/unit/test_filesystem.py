# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognising real file systems from their first bytes, and what growing them moves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from images import MIB, digest

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.ext4_metadata import free_blocks
from pyguixvm.image.extents import set_size
from pyguixvm.image.filesystem import HEAD_SIZE, GroupDescriptors, grow, identify, read_file
from pyguixvm.image.overlay import ImageError
from pyguixvm.process import run

UUID = "0b0e3c4e-1fd6-4b6f-9f0e-6b1b3d6f2a11"


def made(directory: Path, *argv: str, size: int = 128 * MIB) -> bytes:
    file = directory / "fs"
    with file.open("wb") as image:
        image.truncate(size)
    run([*argv, str(file)])
    with file.open("rb") as image:
        return image.read(HEAD_SIZE)


def declared(hint: str | None) -> int:
    """Return the size (bytes) that HINT says to declare."""
    found = re.fullmatch(r"Declare at most \(storage (\d+)([MG])\)\.", hint or "")
    assert found is not None
    return int(found[1]) * {"M": 1024**2, "G": 1024**3}[found[2]]


@pytest.mark.parametrize("block_size", [1024, 2048, 4096])
@pytest.mark.parametrize("features", ["64bit", "^64bit", "64bit,metadata_csum"])
def test_ext4_is_recognised(tmp_path: Path, block_size: int, features: str) -> None:
    options = ["-q", "-t", "ext4", "-b", str(block_size), "-O", features]
    found = identify(made(tmp_path, "mke2fs", *options, "-L", "Guix_image", "-U", UUID))
    assert found is not None
    assert (found.type, found.label, str(found.uuid)) == ("ext4", "Guix_image", UUID)
    assert (found.block_size, found.size) == (block_size, 128 * MIB)


def test_btrfs_is_recognised(tmp_path: Path) -> None:
    found = identify(made(tmp_path, "mkfs.btrfs", "-q", "-L", "root", "-U", UUID))
    assert found is not None
    assert (found.type, found.label, str(found.uuid)) == ("btrfs", "root", UUID)
    assert (found.block_size, found.size) == (4096, 128 * MIB)


@given(st.binary(max_size=200), st.integers(0, HEAD_SIZE))
def test_anything_else_is_nothing(content: bytes, at: int) -> None:
    head = (bytes(at) + content)[:HEAD_SIZE]
    assert identify(head) is None
    assert identify(b"") is None


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    options = ["-q", "-t", "ext4", "-O", "64bit"]
    return made(tmp_path_factory.mktemp("ext4"), "mke2fs", *options)


@given(st.integers(0, 0x160 // 2 - 2), st.binary(min_size=4, max_size=4))
@example(0x18 // 2, b"\xff\xff\xff\xff")
@example(0x16 // 2, b"\xff\xff\xff\xff")
@example(0x20 // 2, bytes(4))
@example(0xFE // 2, b"\xff\xff\xff\xff")
def test_a_superblock_that_lies_is_refused_or_has_numbers_to_go_on_with(
    ext4: bytes, half: int, lie: bytes
) -> None:
    at = 1024 + 2 * half
    with suppress(RequestRefusedError):
        found = identify(ext4[:at] + lie + ext4[at + 4 :])
        if found is not None:
            assert found.groups is not None
            assert found.block_size in {1024 << shift for shift in range(7)}
            found.groups.room_for(1 << 64)
            # What it says can be said.
            assert max(found.groups.most, found.size) < 1 << 128


@pytest.mark.parametrize(
    ("options", "size", "fits"),
    [
        ([], 300 * MIB, True),
        (["-O", "^resize_inode"], 200 * MIB, True),
        (["-O", "^resize_inode"], 3000 * MIB, False),
        ([], 60 * 1024 * MIB, True),
        ([], 70 * 1024 * MIB, False),
        (["-O", "^resize_inode,meta_bg"], 300 * MIB, False),
    ],
)
def test_it_is_known_whether_growing_moves_data(
    tmp_path: Path, options: Sequence[str], size: int, *, fits: bool
) -> None:
    head = made(tmp_path, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^64bit", *options)
    found = identify(head)
    assert found is not None
    assert found.groups is not None
    assert found.groups.room_for(size // 1024) is fits


def test_a_list_of_groups_grows_by_whole_blocks() -> None:
    groups = GroupDescriptors(
        blocks=8193, first_block=1, blocks_per_group=8192, per_block=32, reserved=1, movable=True
    )
    assert [groups.needed(1 + 8192 * count) for count in (1, 32, 33, 64, 65)] == [1, 1, 2, 2, 3]
    assert groups.room_for(1 + 8192 * 64)
    assert not groups.room_for(2 + 8192 * 64)


@pytest.mark.parametrize("features", ["^64bit", "64bit", "meta_bg,^resize_inode"])
def test_ext4_grows_to_its_limit_and_is_refused_beyond(tmp_path: Path, features: str) -> None:
    # In groups so small, the limit is at a gigabyte or two.
    block_size = 1024
    options = ["-q", "-t", "ext4", "-b", str(block_size), "-g", "256", "-O", features]
    made(tmp_path, "mke2fs", *options, size=30 * MIB)
    file = tmp_path / "fs"
    groups = read_file(file).groups
    assert groups is not None
    most = groups.most * block_size
    set_size(file, most + block_size)
    before = digest(file)
    with pytest.raises(RequestRefusedError, match=f"at most {most} bytes") as refused:
        grow(file)
    assert 0 < declared(refused.value.hint) <= most
    assert digest(file) == before
    # What was refused is what resize2fs would have.
    size = str((most + block_size) // 512) + "s"
    assert run(["resize2fs", str(file), size], check=False).status != 0
    set_size(file, most + block_size - 512)
    grow(file)
    assert read_file(file).size == most
    run(["e2fsck", "-fn", str(file)])


def test_the_most_that_ext4_takes_is_told_exactly(tmp_path: Path) -> None:
    # A quarter of a gigabyte less than two terabytes.
    made(tmp_path, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^64bit")
    file = tmp_path / "fs"
    set_size(file, 2 * 1024**4)
    with pytest.raises(RequestRefusedError) as refused:
        grow(file)
    assert declared(refused.value.hint) == 2047 * 1024**3


def test_a_number_of_a_block_has_32_bits_unless_it_has_64(tmp_path: Path) -> None:
    largest = {}
    for features in ("^64bit", "64bit"):
        options = ["-q", "-t", "ext4", "-b", "4096", "-O", features]
        found = identify(made(tmp_path, "mke2fs", *options))
        assert found is not None
        assert found.groups is not None
        largest[features] = found.groups.most * 4096
    assert largest == {"^64bit": 16 * 1024**4, "64bit": 256 * 1024**4}


def test_a_resize2fs_that_says_it_is_done_has_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "mke2fs", "-q", "-t", "ext4", size=30 * MIB)
    set_size(tmp_path / "fs", 300 * MIB)
    program = tmp_path / "resize2fs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImageError, match=f"{30 * MIB} bytes instead of {300 * MIB}"):
        grow(tmp_path / "fs")


def test_free_blocks_are_read_from_each_group_and_from_nowhere_else() -> None:
    dump = """\
Free blocks:              9
Group 0: (Blocks 1-8192)
  2 free blocks, 3 free inodes
  Free blocks: 7-8, 11
  Free inodes: 1-3
Group 1: (Blocks 8193-16384)
  Free blocks: 
  Free inodes: 12
Group 2: (Blocks 16385-24576)
  Free blocks: 16390-16395
"""  # noqa: W291
    assert free_blocks(dump) == ((7, 9), (11, 12), (16390, 16396))
