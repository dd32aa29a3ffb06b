# SPDX-License-Identifier: GPL-3.0-or-later
"""What files hold, told by a digest, and what is known of it later."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyguixvm.digest.content import CHUNK, Arriving, Content, content_of
from pyguixvm.digest.file_state import FileState
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.sparse_file import data_ranges

PAGE = 4096
# Where something is written, and what.
WRITES = st.lists(
    st.tuples(st.integers(0, 5 * CHUNK), st.integers(1, 70_000), st.sampled_from([b"\0", b"x"])),
    max_size=5,
)


def content(path: Path) -> Content:
    with path.open("rb") as file:
        return content_of(file)


def written(path: Path, size: int, writes: list[tuple[int, int, bytes]]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length, what in writes:
            if offset + length <= size:
                file.seek(offset)
                file.write(what * length)
    return path


def arrived(path: Path, step: int) -> Content:
    """Return what PATH holds as it is told by a stream of messages of STEP bytes, and holes."""
    arriving, at = Arriving(), 0
    with path.open("rb") as file:
        for begin, end in data_ranges(file):
            arriving.skip(begin - at)
            for offset in range(begin, end, step):
                arriving.take(os.pread(file.fileno(), min(step, end - offset), offset))
            at = end
    arriving.skip(path.stat().st_size - at)
    return arriving.content()


@given(
    size=st.integers(0, 6 * CHUNK), writes=WRITES, step=st.sampled_from([PAGE, 65536, 3 * CHUNK])
)
@settings(max_examples=60)
def test_holes_are_zeros_and_a_stream_tells_the_same(
    size: int, writes: list[tuple[int, int, bytes]], step: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        sparse = written(Path(directory) / "sparse", size, writes)
        dense = Path(directory) / "dense"
        dense.write_bytes(sparse.read_bytes())
        assert content(sparse) == content(dense) == arrived(sparse, step)


@given(
    size=st.integers(1, 3 * CHUNK),
    writes=WRITES,
    at=st.integers(0, 3 * CHUNK - 1),
    bit=st.integers(0, 7),
)
@settings(max_examples=60)
def test_each_bit_counts(
    size: int, writes: list[tuple[int, int, bytes]], at: int, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory) / "file", size, writes)
        before = content(path)
        whole = bytearray(path.read_bytes())
        whole[at % size] ^= 1 << bit
        path.write_bytes(whole)
        assert content(path).digest != before.digest


def test_so_does_the_size_and_where_things_are(tmp_path: Path) -> None:
    page = (0, PAGE, b"x")
    one = content(written(tmp_path / "1", 3 * CHUNK, [page]))
    longer = content(written(tmp_path / "2", 3 * CHUNK + 1, [page]))
    elsewhere = content(written(tmp_path / "3", 3 * CHUNK, [(CHUNK, PAGE, b"x")]))
    assert len({each.digest for each in (one, longer, elsewhere)}) == 3
    assert {each.data for each in (one, longer, elsewhere)} == {PAGE}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return written(tmp_path / "image", 2 * CHUNK, [(0, CHUNK, b"x")])


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    """Return what is kept an hour after whatever was written."""
    return Digests(tmp_path / "state", lambda: time.time_ns() + 3600 * 10**9)


def test_what_was_read_once_is_known_until_it_changes(image: Path, digests: Digests) -> None:
    read: list[int] = []
    assert digests.seen(image) is None
    first = digests.of(image, read.append)
    assert read
    read.clear()
    again = Digests(digests.state_directory)
    assert digests.seen(image) == again.of(image, read.append) == first
    assert not read
    # Neither its size nor the time of the last write tells.
    before = image.stat()
    with image.open("r+b") as file:
        file.write(b"y")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.seen(image) is None
    assert digests.of(image) == content(image) != first


def test_another_file_in_its_place_is_read(image: Path, digests: Digests, tmp_path: Path) -> None:
    first = digests.of(image)
    other = written(tmp_path / "other", 2 * CHUNK, [(0, CHUNK, b"y")])
    os.utime(other, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns))
    other.replace(image)
    assert digests.of(image) == content(image) != first


def test_what_was_written_to_a_moment_ago_may_be_again_unseen(tmp_path: Path) -> None:
    digests = Digests(tmp_path / "state")
    path = written(tmp_path / "image", CHUNK, [])
    digests.of(path)
    assert digests.seen(path) is None


def test_what_changes_while_it_is_read_is_refused(image: Path, digests: Digests) -> None:
    def change(_read: int) -> None:
        image.touch()

    with pytest.raises(RequestRefusedError, match="changed while it was used"):
        digests.of(image, change)


def test_what_goes_while_it_is_used_is_refused(image: Path) -> None:
    state = FileState.of(image)
    state.require_unchanged()
    image.unlink()
    with pytest.raises(RequestRefusedError, match="changed while it was used"):
        state.require_unchanged()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"what": 1}', b"\xff"])
def test_a_damaged_note_is_none(image: Path, digests: Digests, damage: bytes) -> None:
    expected = digests.of(image)
    (note,) = (digests.state_directory / "digests").iterdir()
    note.write_bytes(damage)
    assert digests.seen(image) is None
    assert digests.of(image) == expected


def test_what_cannot_be_kept_is_read_again(image: Path) -> None:
    digests = Digests(Path("/dev/null/state"))
    assert digests.of(image) == content(image)
    assert digests.seen(image) is None


def test_not_more_is_kept_than_is_of_use(image: Path, digests: Digests) -> None:
    found = content(image)
    for number in range(300):
        digests.keep(str(number), "", found)
    assert len(list((digests.state_directory / "digests").iterdir())) == 256
    assert digests.known("299", "") == found
