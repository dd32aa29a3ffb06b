# SPDX-License-Identifier: GPL-3.0-or-later
"""A line of ssh's that is metered, and cut.

usage: metered.py HOST PORT METER [LINE]

Connect to PORT of HOST, or to the socket LINE, which leads there, as a ProxyCommand; add to the
file METER, a line each time, how many bytes go there.  As soon as more went there, in this
connection, than the file METER.cut says, end.
"""

import os
import select
import socket
import sys
from pathlib import Path

_BLOCK = 64 * 1024


def relay(there: socket.socket, meter: Path) -> None:
    limit = meter.with_name(f"{meter.name}.cut")
    went = 0
    # Who ends this may not wait until it has: what went is noted before it goes.
    with meter.open("a", buffering=1) as notes:
        while not limit.exists() or went <= int(limit.read_text()):
            ready, _, _ = select.select([0, there], [], [])
            if 0 in ready:
                data = os.read(0, _BLOCK)
                if not data:
                    return
                notes.write(f"{len(data)}\n")
                there.sendall(data)
                went += len(data)
            if there in ready:
                data = there.recv(_BLOCK)
                if not data:
                    return
                os.write(1, data)


class Meter:
    """What goes by the connections that its OPTION, of ssh's, makes, by LINE if that is given."""

    def __init__(self, file: Path, line: Path | None = None) -> None:
        self._file = file
        self._cut = file.with_name(f"{file.name}.cut")
        self.option = f"'ProxyCommand={sys.executable} {__file__} %h %p {file} {line or ''}'"

    def went(self) -> int:
        """Return how many bytes went there so far."""
        return sum(map(int, self._file.read_text().split())) if self._file.exists() else 0

    def cut_after(self, size: int | None) -> None:
        """Have each connection end after SIZE bytes; None for never."""
        if size is None:
            self._cut.unlink(missing_ok=True)
        else:
            self._cut.write_text(str(size))


def connected(host: str, port: str, line: str | None = None) -> socket.socket:
    if line is None:
        return socket.create_connection((host, int(port)))
    there = socket.socket(socket.AF_UNIX)
    there.connect(line)
    return there


if __name__ == "__main__":
    _host, _port, _meter, *_line = sys.argv[1:]
    relay(connected(_host, _port, *_line), Path(_meter))
