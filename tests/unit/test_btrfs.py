# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing real btrfs, as ``btrfs check`` sees it afterwards."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import MIB, btrfs_of, digest, make_btrfs

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import btrfs, extents
from pyguixvm.image.btrfs import SUPERBLOCK_SIZE, SUPERBLOCKS, Write
from pyguixvm.image.btrfs_block import crc32c
from pyguixvm.image.extents import Range
from pyguixvm.image.filesystem import read_file
from pyguixvm.process import run

GIB = 1024**3
KINDS = {
    "as Guix makes it": [],
    "of mixed block groups": ["--mixed"],
    "with its metadata once": ["--metadata", "single"],
    "with small nodes": ["--nodesize", "4096"],
    "with large nodes": ["--nodesize", "65536"],
    "with sha256": ["--csum", "sha256"],
    "with blake2": ["--csum", "blake2"],
    "of an old make": ["-O", "^no-holes,^skinny-metadata", "-R", "^free-space-tree"],
}


def grown(path: Path, size: int) -> Path:
    os.truncate(path, size)
    btrfs.grow(path)
    return path


def superblock(path: Path, copy: int = 0) -> dict[str, str]:
    """Return the fields of a superblock, as btrfs-progs names them."""
    dump = run(["btrfs", "inspect-internal", "dump-super", "-f", "-s", str(copy), str(path)])
    return dict(re.findall(r"^(\S+)\t+(.+)$", dump.text, re.MULTILINE))


def check(path: Path) -> None:
    """Raise unless the btrfs at PATH is without errors, and btrfs-progs without doubts."""
    done = run(["btrfs", "check", "--readonly", "--check-data-csum", str(path)])
    assert "no error found" in done.text
    assert "WARNING" not in done.stderr.decode()


@pytest.mark.parametrize("size", [300 * MIB, 300 * GIB])
@pytest.mark.parametrize("kind", KINDS)
def test_it_fills_its_device_and_is_sound(tmp_path: Path, kind: str, size: int) -> None:
    path = grown(make_btrfs(tmp_path, options=KINDS[kind]), size + 512)
    check(path)
    assert read_file(path).size == size
    for copy in range(sum(at < size for at in SUPERBLOCKS)):
        found = superblock(path, copy)
        assert (found["total_bytes"], found["dev_item.total_bytes"]) == (str(size), str(size))
        assert "[match]" in found["csum"]
        assert found["bytenr"] == str(SUPERBLOCKS[copy])


def test_its_chunk_tree_may_have_levels(tmp_path: Path) -> None:
    large = tmp_path / "contents" / "large"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(300 * MIB)
    options = ["--nodesize", "4096", "--metadata", "single"]
    path = btrfs_of(large.parent, tmp_path / "root", options)
    assert superblock(path)["chunk_root_level"] == "1"
    check(grown(path, GIB))
    assert read_file(path).size == GIB


def test_it_keeps_its_identity_where_it_was_renamed(tmp_path: Path) -> None:
    path = make_btrfs(tmp_path)
    run(["btrfstune", "-f", "-m", str(path)])
    check(grown(path, GIB))


def test_a_backup_of_the_roots_knows_the_new_size_too(tmp_path: Path) -> None:
    path = make_btrfs(tmp_path)
    size = GIB
    dump = ["btrfs", "inspect-internal", "dump-super", "-f", str(path)]
    root = superblock(path)["chunk_root"]
    grown(path, size)
    backups = run(dump).text.split("backup_tree_root")[1:]
    current = [text for text in backups if f"backup_chunk_root:\t{root}\t" in text]
    assert current
    assert all(f"backup_total_bytes:\t{size}\n" in text for text in current)


def test_what_fills_its_device_is_left_alone(tmp_path: Path) -> None:
    path = make_btrfs(tmp_path)
    before = digest(path)
    btrfs.grow(path)
    assert digest(path) == before


# A device, as it was and as it will be.


class Device:
    """The file at PATH, on which what is written shows here alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.written: dict[int, bytes] = {}

    def read(self, where: Range) -> bytes:
        with self._path.open("rb") as file:
            content = bytearray(extents.read(file, where))
        for at, written in self.written.items():
            for start, end in extents.intersection([(at, at + len(written))], [where]):
                content[start - where[0] : end - where[0]] = written[start - at : end - at]
        return bytes(content)

    def apply(self, writes: Sequence[Write]) -> None:
        self.written |= {write.offset: write.content for write in writes}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_btrfs(tmp_path_factory.mktemp("btrfs"))


@given(st.integers(0, 1 << 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_growing_is_done_once(made: Path, more: int) -> None:
    device, size = Device(made), made.stat().st_size + more
    device.apply(btrfs.plan(device.read, size))
    assert btrfs.plan(device.read, size) == ()


@given(st.integers(4096, 1 << 50), st.integers(0, 1 << 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_growing_twice_is_growing_once(made: Path, more: int, further: int) -> None:
    have = made.stat().st_size
    once, twice = Device(made), Device(made)
    once.apply(btrfs.plan(once.read, have + more + further))
    twice.apply(btrfs.plan(twice.read, have + more))
    twice.apply(btrfs.plan(twice.read, have + more + further))
    assert once.written == twice.written


@given(st.integers(4096, 1 << 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_copy_that_fits_is_written_and_little_else(made: Path, more: int) -> None:
    size = made.stat().st_size + more
    writes = btrfs.plan(Device(made).read, size)
    offsets = [write.offset for write in writes]
    assert {at for at in SUPERBLOCKS if at + SUPERBLOCK_SIZE < size} <= set(offsets)
    assert len(offsets) == len(set(offsets)) <= len(SUPERBLOCKS) + 2
    assert all(write.where[1] <= size for write in writes)


# What is refused.


def altered(path: Path, alter: Callable[[bytearray], None]) -> Path:
    """ALTER the superblock of the btrfs at PATH, and give it the checksum that belongs to it."""
    with path.open("r+b") as file:
        file.seek(SUPERBLOCKS[0])
        block = bytearray(file.read(SUPERBLOCK_SIZE))
        alter(block)
        struct.pack_into("<I", block, 0, crc32c(bytes(block[32:])))
        file.seek(SUPERBLOCKS[0])
        file.write(block)
    return path


def setting(offset: int, layout: str, value: int) -> Callable[[bytearray], None]:
    return lambda block: struct.pack_into(layout, block, offset, value)


UNKNOWN = {
    "flags 0x100000000": setting(0x38, "<Q", 1 << 32 | 1),
    "incompatible features 0x1000": setting(0xBC, "<Q", 0x1000 | 0x341),
    "incompatible features 0x8000000000000000": setting(0xBC, "<Q", 1 << 63),
    "features 0x10": setting(0xB4, "<Q", 0x10),
    "checksums of type 1": setting(0xC4, "<H", 1),
    "on 2 devices": setting(0x88, "<Q", 2),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_is_refused_and_left_alone(tmp_path: Path, what: str) -> None:
    path = altered(make_btrfs(tmp_path), UNKNOWN[what])
    os.truncate(path, 300 * MIB)
    before = digest(path)
    with pytest.raises(RequestRefusedError, match=what) as caught:
        btrfs.grow(path)
    assert caught.value.hint is not None
    assert digest(path) == before


IMPOSSIBLE = {
    "blocks have impossible sizes": setting(0x94, "<I", 12345),
    "has no superblock": setting(0x30, "<Q", 4096),
    "larger than its partition": setting(0x70, "<Q", 1 << 40),
    "disagree on its size": setting(0xC9 + 8, "<Q", 1 << 30),
    "in none of its chunks": setting(0x58, "<Q", 1 << 40),
    "lists half a chunk": setting(0xA0, "<I", 128),
    "more chunks than there is room": setting(0xA0, "<I", 1 << 20),
    "something that is no chunk": setting(0x32B + 8, "<B", 1),
    "a node that is another's": setting(0xC7, "<B", 1),
    "has no device": setting(0xC9, "<Q", 7),
    # Where the first stripe of the first chunk is.
    "beyond its end": setting(0x32B + 17 + 48 + 8, "<Q", (1 << 64) - 4096),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_refused(tmp_path: Path, what: str) -> None:
    path = altered(make_btrfs(tmp_path), IMPOSSIBLE[what])
    os.truncate(path, 300 * MIB)
    with pytest.raises(RequestRefusedError, match=f"damaged: .*{what}"):
        btrfs.grow(path)


def nodes(path: Path) -> Iterator[int]:
    """Yield where the leaf of the chunk tree is, in each of its copies."""
    for write in btrfs.plan(Device(path).read, path.stat().st_size + MIB):
        if write.offset not in SUPERBLOCKS:
            yield write.offset


@pytest.mark.parametrize(
    ("copies", "what"), [(1, "copies of its chunk tree differ"), (2, "checksum of its chunk tree")]
)
def test_a_damaged_chunk_tree_is_refused(tmp_path: Path, copies: int, what: str) -> None:
    path = make_btrfs(tmp_path)
    for at in list(nodes(path))[:copies]:
        with path.open("r+b") as file:
            file.seek(at + 0x100)
            file.write(b"damage")
    os.truncate(path, 300 * MIB)
    with pytest.raises(RequestRefusedError, match=f"damaged: .*{what}"):
        btrfs.grow(path)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_single_wrong_bit_goes_unnoticed(made: Path, data: st.DataObject) -> None:
    device = Device(made)
    at = data.draw(st.sampled_from([SUPERBLOCKS[0], *nodes(made)]))
    block = bytearray(device.read((at, at + SUPERBLOCK_SIZE)))
    bit = data.draw(st.integers(0, len(block) * 8 - 1))
    block[bit // 8] ^= 1 << bit % 8
    device.apply([Write(at, bytes(block))])
    with pytest.raises(RequestRefusedError):
        btrfs.plan(device.read, made.stat().st_size + MIB)


# CRC-32C.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # RFC 3720, B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_crc32c_is_that_of_the_standard(content: bytes, expected: int) -> None:
    assert crc32c(content) == expected


def by_bits(content: bytes) -> int:
    """Return the remainder of CONTENT by the polynomial, one bit after the other."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_crc32c_is_a_remainder(content: bytes) -> None:
    assert crc32c(content) == by_bits(content)


@given(st.binary(min_size=1, max_size=64), st.data())
def test_crc32c_is_affine(one: bytes, data: st.DataObject) -> None:
    other = data.draw(st.binary(min_size=len(one), max_size=len(one)))
    both = bytes(a ^ b for a, b in zip(one, other, strict=True))
    assert crc32c(both) == crc32c(one) ^ crc32c(other) ^ crc32c(bytes(len(one)))
