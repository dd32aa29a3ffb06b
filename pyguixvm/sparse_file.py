# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a sparse file has data, and that it is on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def flush(path: Path) -> None:
    """Return when what was written to the file PATH is on disk.

    Raises OSError: some file systems say only now that there was no room.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def data_ranges(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the first byte of each part of FILE that is no hole, and the first one behind it.

    That may be more than holds data, but never less: a file system that knows no holes
    has one part.
    """
    descriptor = file.fileno()
    at, size = 0, os.fstat(descriptor).st_size
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the end
                return
            if error.errno != errno.EINVAL:
                raise
            begin, end = at, size
        yield begin, end
        at = end
