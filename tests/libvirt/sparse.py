# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files that take little space."""

import os
import random
from pathlib import Path

from pyguixvm.hypervisor import sending


def sparse_file(path, size, data):
    """Write a file of SIZE bytes, with DATA as pairs of offset and length."""
    chance = random.Random(1)
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in data:
            file.seek(offset)
            file.write(chance.randbytes(length))
    return path


def same_bytes(one, other):
    """Whether two files are equal; parts that are holes in both are not read."""
    with Path(one).open("rb") as a, Path(other).open("rb") as b:
        if os.fstat(a.fileno()).st_size != os.fstat(b.fileno()).st_size:
            return False
        return all(
            os.pread(a.fileno(), length, offset) == os.pread(b.fileno(), length, offset)
            for file in (a, b)
            for offset, length in sending.data_extents(file)
        )
