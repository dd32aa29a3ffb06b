# SPDX-License-Identifier: GPL-3.0-or-later
"""What remains of a serial console's bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.hypervisor.console import ConsoleText


def lines(*chunks, kept=100):
    text = ConsoleText(kept)
    for chunk in chunks:
        text.feed(chunk)
    return text.lines()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ()),
        (b"one\r\ntwo\r\n", ("one", "two")),
        (b"one\ntwo", ("one", "two")),
        (b"login: ", ("login: ",)),
        (b"\r\r\nafter an empty line\r\n", ("", "after an empty line")),
        (b"10%\r20%\r\n", ("10%", "20%")),
        (b"\x1b[1;32mgreen\x1b[0m\n", ("green",)),
        (b"\x1b[2J\x1b[01;01HGNU GRUB\n", ("GNU GRUB",)),
        (b"\x1b]0;title\x07prompt$ ", ("prompt$ ",)),
        (b"\x1b]0;title\x1b\\prompt$ ", ("prompt$ ",)),
        (b"\x1bcreset\x1b(B\n", ("reset",)),
        (b"bell\x07 and tab\there\n", ("bell and tab\there",)),
        (b"G\xc3\xbcte\n", ("Güte",)),
        (b"\xff\n", ("\ufffd",)),
    ],
)
def test_lines_are_as_a_reader_would_see_them(data, expected):
    assert lines(data) == expected


@given(st.lists(st.sampled_from([b"a", b"\r\n", b"\x1b[1m", "ü".encode(), b"\n"])), st.integers(1))
def test_it_does_not_matter_how_the_bytes_arrive(parts, size):
    data = b"".join(parts)
    assert lines(*(data[i : i + size] for i in range(0, len(data), size))) == lines(data)


def test_only_the_last_lines_are_kept():
    assert lines(b"1\n2\n3\n4\nlast", kept=2) == ("3", "4", "last")


def test_a_line_without_end_is_cut_and_takes_no_more_memory():
    text = ConsoleText(kept=10)
    for _ in range(500):
        text.feed(b"x" * 10_000)
    assert len(text.lines()) <= 11
    assert all(len(line) <= 4096 for line in text.lines())
    text.feed(b"y" * 1_000_000 + b"\nend\n")
    assert text.lines()[-1] == "end"
    assert all(len(line) <= 4096 for line in text.lines())
