# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of bytes, and where files differ."""

from __future__ import annotations

import errno
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.image import extents
from pyguixvm.image.extents import Range

SETS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1])), max_size=8
)


def members(where: list[Range] | tuple[Range, ...]) -> set[int]:
    return {at for start, end in where for at in range(start, end)}


def is_normal(where: tuple[Range, ...]) -> bool:
    return all(start < end for start, end in where) and all(
        one[1] < other[0] for one, other in pairwise(where)
    )


@given(SETS, SETS)
def test_ranges_are_sets(left: list[Range], right: list[Range]) -> None:
    for result, expected in [
        (extents.union(left, right), members(left) | members(right)),
        (extents.difference(left, right), members(left) - members(right)),
        (extents.intersection(left, right), members(left) & members(right)),
    ]:
        assert members(result) == expected
        assert is_normal(result)


def test_chunks_are_small_and_complete() -> None:
    where = [(5, 3 * 2**20)]
    pieces = list(extents.chunks(where))
    assert extents.union(pieces) == ((5, 3 * 2**20),)
    assert max(end - start for start, end in pieces) <= 2**20


@given(st.dictionaries(st.integers(0, 40 * 512 - 1), st.integers(1, 255), max_size=6))
def test_differences_are_whole_sectors_and_none_is_missed(changes: dict[int, int]) -> None:

    with tempfile.TemporaryDirectory() as directory:
        left, right = Path(directory) / "left", Path(directory) / "right"
        content = bytearray(40 * 512)
        left.write_bytes(content)
        for at, value in changes.items():
            content[at] = value
        with right.open("wb") as file:
            file.write(content)
            file.truncate(2**24)
        with left.open("rb") as one, right.open("rb") as other:
            found = extents.differences(one, other)
    assert members(found) == {
        byte for at in changes for byte in range(at // 512 * 512, at // 512 * 512 + 512)
    }


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(2**30)
        file.seek(2**29)
        file.write(b"data")
    extents.copy_sparse(source, target)
    assert target.stat().st_size == 2**30
    assert target.stat().st_blocks * 512 < 2**20
    with target.open("rb") as file:
        assert extents.read(file, (2**29, 2**29 + 4)) == b"data"
        assert extents.read(file, (2**30 - 1, 2**30 + 2)) == bytes(3)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL])
def test_files_on_two_file_systems_are_copied_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: int) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    content = bytes(range(256)) * 16384
    source.write_bytes(content)
    with source.open("rb") as old, target.open("wb") as new:
        extents.copy(old, new, [(100, 3 * 2**20)], -100)
    assert target.read_bytes() == content[100 : 3 * 2**20]
