# SPDX-License-Identifier: GPL-3.0-or-later
"""A long and slow line to a libvirtd: the kernel here has nothing that makes one.

usage: relay.py SOCKET TARGET SECONDS BYTES

Pass on what comes to the socket SOCKET to TARGET, another one or HOST:PORT, and back, each byte
SECONDS later, at most BYTES in a second each way (0: as fast as can be).  It ends with its
standard input; before, each line there asks for a line: how many bytes went there, how many came
back, and how many times the direction changed from there to back, which is a round trip each.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 16 * 1024


@dataclass
class Traffic:
    """What was passed on."""

    there: int = 0
    back: int = 0
    trips: int = 0
    answering: bool = True


class Line:
    """One way of the line: what is sent arrives LATER, after all that was sent before."""

    def __init__(self, later: float, rate: float) -> None:
        self._later, self._rate = later, rate
        self._free = 0.0
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def take(self, reader: asyncio.StreamReader, traffic: Traffic, *, there: bool) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(_BLOCK):
            if there:
                traffic.trips += traffic.answering
                traffic.there += len(data)
            else:
                traffic.back += len(data)
            traffic.answering = not there
            now = loop.time()
            self._free = max(now, self._free) + (len(data) / self._rate if self._rate else 0)
            await self._queue.put((self._free + self._later, data))
            # What a socket would hold back: no more is taken than the line carries.
            if self._free - now > 0.1:
                await asyncio.sleep(self._free - now - 0.1)
        await self._queue.put((0.0, b""))

    async def give(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while (item := await self._queue.get())[1]:
            await asyncio.sleep(max(0.0, item[0] - loop.time()))
            writer.write(item[1])
            await writer.drain()
        writer.close()


async def connected(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = target.rpartition(":")
    if target.startswith("/"):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(host, int(port))


async def relay(socket: str, target: str, later: float, rate: float) -> None:
    traffic = Traffic()
    # As nobody else keeps them, they would be gone before they end.
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        there, back = await connected(target)
        out, home = Line(later, rate), Line(later, rate)
        await asyncio.gather(
            out.take(reader, traffic, there=True), out.give(back),
            home.take(there, traffic, there=False), home.give(writer),
            return_exceptions=True,
        )  # fmt: skip
        serving.discard(asyncio.current_task())

    await asyncio.start_unix_server(serve, socket)
    print(flush=True)
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        print(traffic.there, traffic.back, traffic.trips, flush=True)


class Relay:
    """A line that runs as PROCESS, and to which URI leads, if there is a libvirtd at its end."""

    def __init__(self, process: "subprocess.Popen[str]", uri: str) -> None:
        self._process = process
        self.uri = uri

    def traffic(self) -> Traffic:
        """Return what was passed on so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Traffic(*map(int, self._process.stdout.readline().split()))

    def fall_silent(self) -> None:
        """Pass on nothing any more; nobody is told that."""
        self._process.send_signal(signal.SIGSTOP)

    def cut(self) -> None:
        """End it, and with it all connections."""
        self._process.kill()
        self._process.wait()


@contextmanager
def relayed(
    socket: Path, target: str = "/run/libvirt/libvirt-sock", later: float = 0.025,
    rate: float = 2.5e6,
) -> Iterator[Relay]:  # fmt: skip
    """Run a line of RATE (bytes in a second) to TARGET, LATER (seconds) each way."""
    process = subprocess.Popen(
        [sys.executable, __file__, socket, target, str(later), str(rate)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield Relay(process, f"qemu+unix:///system?socket={socket}")
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
