# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes from one program to the next as it comes."""

from __future__ import annotations

from typing import IO

import pytest

from pyguixvm import process
from pyguixvm.pipes import written

MIB = 1024**2


def test_more_than_a_pipe_holds_goes_through() -> None:
    def write(pipe: IO[bytes]) -> None:
        for _ in range(8):
            pipe.write(b"x" * MIB)
        pipe.flush()
        process.run(["printf", "end"], stdout=pipe)

    with written(write) as source:
        ran = process.run(["tail", "-c", "4"], stdin=source)
    assert ran.stdout == b"xend"


def test_a_writer_that_fails_is_told_rather_than_what_follows_from_it() -> None:
    def write(pipe: IO[bytes]) -> None:
        pipe.write(b"half")
        raise OSError("the other half is gone")

    with pytest.raises(OSError, match="other half"), written(write) as source:
        process.run(["sh", "-c", "cat > /dev/null; exit 1"], stdin=source)
    with pytest.raises(OSError, match="other half"), written(write) as source:
        assert source.read() == b"half"


def test_who_reads_no_more_is_no_failure_of_the_writer() -> None:
    def write(pipe: IO[bytes]) -> None:
        while True:
            process.run(["yes"], stdout=pipe, check=False)
            pipe.write(b"more" * MIB)

    with written(write) as source:
        assert process.run(["head", "-c", "3"], stdin=source).stdout == b"y\ny"
    with pytest.raises(KeyboardInterrupt), written(write):
        raise KeyboardInterrupt
