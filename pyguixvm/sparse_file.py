# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a sparse file has data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import BinaryIO


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
