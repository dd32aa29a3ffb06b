# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables: what sfdisk says, and growing the last partition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from images import MIB

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.partition import Partition, PartitionTable, grow_last, parse, read
from pyguixvm.process import run


def dump(label: str, *partitions: tuple[str, int, int, str], **more: object) -> bytes:
    entries = [
        {"node": node, "start": start, "size": size, "type": type_, "bootable": True}
        for node, start, size, type_ in partitions
    ]
    table = {"label": label, "device": "disk1", "unit": "sectors", "partitions": entries, **more}
    return json.dumps({"partitiontable": table}).encode()


def test_sectors_become_bytes_and_nodes_numbers() -> None:
    table = parse(dump("dos", ("disk1p1", 2048, 100, "ef"), ("disk1p2", 4096, 8, "83")))
    assert table == PartitionTable(
        label="dos",
        sector_size=512,
        partitions=(
            Partition(number=1, offset=MIB, size=51200, type="ef"),
            Partition(number=2, offset=2 * MIB, size=4096, type="83"),
        ),
    )


def test_larger_sectors_count() -> None:
    table = parse(dump("gpt", ("disk11", 256, 2, "X"), sectorsize=4096))
    assert (table.last.number, table.last.offset, table.last.end) == (1, MIB, MIB + 8192)


def test_the_last_partition_is_the_one_that_stands_last() -> None:
    table = parse(dump("dos", ("disk1p1", 9000, 1, "83"), ("disk1p2", 2048, 1, "83")))
    assert table.last.number == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (dump("sun", ("disk1p1", 1, 1, "83")), "type 'sun'"),
        (dump("dos"), "no partitions"),
        (dump("dos", ("disk1p1", 1, 9, "5"), ("disk1p5", 2, 1, "83")), "logical"),
    ],
)
def test_what_cannot_grow_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(RequestRefusedError, match=words):
        parse(text)


def test_an_entry_that_makes_no_sense_is_refused() -> None:
    said = json.loads(dump("gpt", ("disk1p1", 2048, 100, "X")))
    del said["partitiontable"]["partitions"][0]["start"]
    with pytest.raises(RequestRefusedError, match=r"damaged: .*start"):
        parse(json.dumps(said).encode())


@pytest.mark.parametrize("sector", [40 * MIB // 512, 2**32 - 2])
def test_a_partition_beyond_the_end_of_its_image_is_refused(tmp_path: Path, sector: int) -> None:
    disk = make_disk(tmp_path / "disk", "dos", 40 * MIB)
    with disk.open("r+b") as file:
        file.seek(446 + 16 + 8)
        file.write(sector.to_bytes(4, "little"))
    with pytest.raises(RequestRefusedError, match=r"damaged: partition 2 ends at \d+, and the im"):
        read(disk)


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("size", [40 * MIB + 512, 41 * MIB, 3000 * MIB])
def test_the_last_partition_takes_all_the_room(tmp_path: Path, label: str, size: int) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(40 * MIB)
    table = f"label: {label}\n2048,4096\n6144,\n"
    run(["sfdisk", "-q", "--no-tell-kernel", str(image)], stdin=table.encode())
    first, last = read(image).partitions
    with image.open("r+b") as file:
        file.truncate(size)
    grown = grow_last(image)
    # A GPT has a copy of itself at the end.
    end = size - (33 * 512 if label == "gpt" else 0)
    # Less than 1 MiB of room may be left, since sfdisk aligns what it writes.
    assert end - MIB < grown.end <= end
    assert grown.size >= last.size
    assert (grown.number, grown.offset, grown.type) == (2, last.offset, last.type)
    assert read(image).partitions == (first, grown)
    assert "No errors detected" in run(["sfdisk", "--verify", str(image)]).text


def make_disk(file: Path, label: str, size: int) -> Path:
    """Make a disk with a partition of 20 MiB; behind that, there is room up to SIZE bytes."""
    with file.open("wb") as image:
        image.truncate(40 * MIB)
    run(
        ["sfdisk", "-q", "--no-tell-kernel", str(file)],
        stdin=f"label: {label}\n2048,4096\n6144,40960\n".encode(),
    )
    with file.open("r+b") as image:
        image.truncate(size)
    return file


LARGEST_MBR = 2**32 - 1


def test_an_mbr_describes_two_terabytes_but_for_a_sector(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", "dos", LARGEST_MBR * 512)
    assert grow_last(disk).end == LARGEST_MBR * 512
    assert run(["sfdisk", "--verify", str(disk)]).status == 0


@pytest.mark.parametrize("sectors", [LARGEST_MBR + 1, LARGEST_MBR + 6144, 3 * 2**31])
def test_what_an_mbr_cannot_describe_is_refused_before_anything_is_written(
    tmp_path: Path, sectors: int
) -> None:
    disk = make_disk(tmp_path / "disk", "dos", sectors * 512)
    before = read(disk)
    with pytest.raises(RequestRefusedError, match="2199023255040 bytes") as refused:
        grow_last(disk)
    assert refused.value.hint is not None
    assert "(storage 2047G)" in refused.value.hint
    assert read(disk) == before


def test_a_gpt_describes_more(tmp_path: Path) -> None:
    size = 15 * 1024**4
    assert size - grow_last(make_disk(tmp_path / "disk", "gpt", size)).end <= MIB + 33 * 512


@pytest.mark.parametrize("lie", ["1000", "20480"])
def test_what_sfdisk_says_to_have_done_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    # One that makes the partition another size than it was told, and says nothing.
    program = tmp_path / "sfdisk"
    program.write_text(f"#!/bin/sh\nsed 's/+/{lie}/' | PATH=${{PATH#*:}} sfdisk --force \"$@\"\n")
    program.chmod(0o755)
    disk = make_disk(tmp_path / "disk", "dos", 100 * MIB)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImageError, match=r"sfdisk grew partition 2 to \d+ bytes"):
        grow_last(disk)
