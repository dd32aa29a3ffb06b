# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts of a file travel."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyguixvm.hypervisor.sending import _runs, data_extents

MIB = 1024**2
BLOCK = 64 * 1024


def extents(path):
    with path.open("rb") as file:
        return list(data_extents(file))


def write(path, size, data):
    with path.open("wb") as file:
        for offset, length in data:
            file.seek(offset)
            file.write(b"x" * length)
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("size", "data", "expected"),
    [
        (0, [], []),
        (64 * MIB, [], []),
        (BLOCK, [(0, BLOCK)], [(0, BLOCK)]),
        (64 * MIB, [(32 * MIB, BLOCK)], [(32 * MIB, BLOCK)]),
        (64 * MIB, [(0, BLOCK), (32 * MIB, BLOCK)], [(0, BLOCK), (32 * MIB, BLOCK)]),
        # Small holes travel with their neighbours.
        (64 * MIB, [(0, BLOCK), (2 * BLOCK, BLOCK)], [(0, 3 * BLOCK)]),
    ],
)
def test_holes_of_some_size_stay_at_home(tmp_path, size, data, expected):
    assert extents(write(tmp_path / "file", size, data)) == expected


@settings(max_examples=50)
@given(blocks=st.sets(st.integers(0, 400)), tail=st.integers(0, BLOCK))
def test_all_data_is_in_the_extents_and_they_are_in_order(tmp_path_factory, blocks, tail):
    path = tmp_path_factory.mktemp("extents") / "file"
    write(path, 401 * BLOCK + tail, [(block * BLOCK, BLOCK) for block in blocks])
    found = extents(path)
    assert found == sorted(found)
    assert all(length > 0 for _, length in found)
    ends = [offset + length for offset, length in found]
    assert all(end < begin for end, (begin, _) in zip(ends, found[1:], strict=False))
    for block in blocks:
        offset = block * BLOCK
        assert any(b <= offset and offset + BLOCK <= b + length for b, length in found)


@pytest.mark.parametrize(
    "nonzero",
    [(), (0,), (1, 2, 30, 31), (0, 6, 15, 40), (0, 2, 5, 7, 40), (63,), (5, 62)],
)
def test_what_travels_on_a_line_is_what_there_is(nonzero: tuple[int, ...]) -> None:
    page = 4096
    data = b"".join(b"\1" * page if n in nonzero else bytes(page) for n in range(64))
    data = data[:-7]
    arrived = bytearray(len(data))
    runs = list(_runs(page, data))
    for at, part in runs:
        arrived[at - page : at - page + len(part)] = part
    assert bytes(arrived) == data
    # A single page of zeros goes along.
    assert sum(len(part) for _, part in runs) <= 2 * len(nonzero) * page
    assert all(b[0] - a[0] - len(a[1]) >= 2 * page for a, b in itertools.pairwise(runs))
