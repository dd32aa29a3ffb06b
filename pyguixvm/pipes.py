# SPDX-License-Identifier: GPL-3.0-or-later
"""What is too much for memory goes from one program to the next as it comes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def written(write: Callable[[IO[bytes]], object]) -> Iterator[IO[bytes]]:
    """Yield a pipe to read from, for the body, to which WRITE writes in a thread of its own.

    Raises what WRITE does, unless that is only since the body ended before.
    """
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def work() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
            try:
                write(pipe)
            except BrokenPipeError:
                raise
            except BaseException as failure:  # noqa: BLE001 -- raised by whoever reads
                # Known before the reader comes to the end.
                failures.append(failure)

    thread = threading.Thread(target=work, name="pipe", daemon=True)
    with os.fdopen(reading, "rb") as source:
        thread.start()
        try:
            yield source
        except BaseException as error:
            if failures:
                raise failures[0] from error
            raise
        finally:
            source.close()
            thread.join()
    if failures:
        raise failures[0]
