# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image is composed of files and of what is in none."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from pyguixvm.image.recipe import BLOCK, Recipe, files_in, recipe

KIB = 1024
MIB = 1024 * KIB


def composed(made: Recipe, image: Path) -> bytes:
    """Return what MADE comes to, where IMAGE is what is sent of."""
    whole = image.read_bytes()
    result = bytearray(made.size)
    for at, length in made.sent:
        result[at : at + length] = whole[at : at + length]
    for each in made.copied:
        with Path(each.file).open("rb") as file:
            file.seek(each.begin)
            result[each.at : each.at + each.length] = file.read(each.length)
    return bytes(result)


def made(image: Path, *items: Path) -> Recipe:
    with image.open("rb") as file:
        found = recipe(file, map(str, items))
    assert composed(found, image) == image.read_bytes()
    return found


@pytest.fixture
def item(tmp_path: Path) -> Path:
    """Return an item with files that begin alike, one with holes, and one less than a block."""
    directory = tmp_path / "item"
    (directory / "lib").mkdir(parents=True)
    data, head = random.Random(1), random.Random(2).randbytes(8 * KIB)
    for number in range(3):
        (directory / f"lib/{number}").write_bytes(head + data.randbytes(100 * KIB + 7 * number))
    holes = bytes(64 * KIB).join(data.randbytes(50 * KIB) for _ in range(4))
    (directory / "holes").write_bytes(bytes(5 * KIB) + holes)
    (directory / "little").write_bytes(b"little")
    (directory / "link").symlink_to("lib/0")
    return directory


def test_what_is_in_files_is_not_sent_but_for_the_tables(item: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    for blocks in (1024, 4096):
        image.unlink(missing_ok=True)
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-b", str(blocks), "-d", item, image, "4M"], check=True
        )
        found = made(image, item)
        assert found.bytes_copied >= 3 * 108 * KIB + 200 * KIB
        assert found.bytes_to_send < 100 * KIB


def test_files_in_pieces_are_found_whose_order_is_that_of_the_file(
    item: Path, tmp_path: Path
) -> None:
    data = (item / "lib/1").read_bytes()
    image = tmp_path / "image"
    noise = random.Random(3).randbytes(10 * KIB)
    pieces = [data[: 20 * KIB], noise, data[20 * KIB : 60 * KIB], noise, data[60 * KIB :]]
    image.write_bytes(b"".join(pieces) + bytes(BLOCK))
    found = made(image, item)
    assert found.bytes_to_send == 2 * len(noise)
    assert {each.file for each in found.copied} == {str(item / "lib/1")}


def test_an_item_may_be_a_file(tmp_path: Path) -> None:
    item, image = tmp_path / "item", tmp_path / "image"
    item.write_bytes(random.Random(4).randbytes(5 * MIB + 100))
    image.write_bytes(item.read_bytes() + bytes(BLOCK))
    found = made(image, item)
    # What is behind its end in its last block has to be zeros.
    assert (found.bytes_copied, found.bytes_to_send) == (5 * MIB + 100, 0)


@pytest.mark.parametrize("end", [b"", b"x", b"x" * 3000])
def test_an_image_may_end_in_the_middle_of_a_block(item: Path, tmp_path: Path, end: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes((item / "lib/0").read_bytes() + end)
    found = made(image, item)
    assert found.bytes_to_send <= len(end) + BLOCK


def test_zeros_are_neither_sent_nor_copied(item: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(6 * MIB + 5))
    assert made(image, item) == Recipe(6 * MIB + 5, (), ())


def test_names_that_others_may_read_otherwise_are_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "item"
    directory.mkdir()
    for name in ("plain", "with space", "Zürich", "new\nline"):
        (directory / name).write_bytes(b"x" * BLOCK)
    assert set(files_in([str(directory)])) == {
        str(directory / "plain"),
        str(directory / "with space"),
    }
