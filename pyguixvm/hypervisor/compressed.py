# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent is compressed on its way, where the shell of a hypervisor's host has zstd.

What libvirt sends it sends as it is.  A volume that is compressed itself would be read again and
again by its guests, and is another one by its bits.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import IO

from pyguixvm import process
from pyguixvm.hypervisor.host_shell import Heard, NotWrittenError, program, said, script
from pyguixvm.pipes import written

# A thread beside it would wait for megabytes before it says anything.
_COMPRESS = ("zstd", "-q", "-c", "-3", "--single-thread")


def send(
    uri: str,
    path: str,
    size: int,
    pieces: Iterable[tuple[int, bytes]],
    *,
    there: int,
    tell: Callable[[int], None],
) -> None:
    """Have the host of URI write PIECES, offsets and bytes, into its file PATH, of SIZE bytes.

    TELL is told how many bytes of data it has by now, of which THERE were so before.  Raises
    NotWrittenError unless all of them are there.
    """
    try:
        process.which(_COMPRESS[0])
    except process.MissingProgramError as error:
        raise NotWrittenError(error.message) from error
    program(uri, _COMPRESS[:1])
    receive = script("receive.sh", {"file": path, "size": size})
    heard = Heard(tell)

    def write(pipe: IO[bytes]) -> None:
        done = there
        for offset, data in pieces:
            done += len(data)
            pipe.write(b"%d %d %d\n" % (offset, len(data), done))
            pipe.write(data)
        pipe.write(b"end\n")

    def compress(pipe: IO[bytes]) -> None:
        with written(write) as plain:
            # It has nobody to write to any more where that host has ended before.
            process.run(_COMPRESS, stdin=plain, stdout=pipe, check=False)

    with written(compress) as source:
        answer = said(uri, source, heard, command=f"exec sh -c {shlex.quote(receive)}")
    if answer != "whole":
        raise NotWrittenError(heard.last or "its shell does not do as it is told")
