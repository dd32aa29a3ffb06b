# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing an image of any format, by way of qemu-nbd.

The protocol is that of the NBD project's ``doc/proto.md``: fixed newstyle
negotiation and simple replies, which every server speaks.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyguixvm import daemon, process
from pyguixvm.confinement import Confinement
from pyguixvm.image.overlay import PACKAGE_HINT, ImageError
from pyguixvm.image.workplace import workplace

_SERVER_MAGIC = b"NBDMAGICIHAVEOPT"
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION_EXPORT_NAME = 1
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_VERBS = {_READ: "read", _WRITE: "written", _FLUSH: "flushed"}


class Export:
    """The content of an image, as a server at CONNECTION gives it."""

    def __init__(self, connection: socket.socket) -> None:
        """Keep CONNECTION, on which the negotiation is over."""
        self._connection = connection

    def read(self, offset: int, size: int) -> bytes:
        """Return SIZE bytes from OFFSET on.  Raises ImageError."""
        self._request(_READ, offset, size)
        return _receive(self._connection, size)

    def write(self, offset: int, content: bytes) -> None:
        """Write CONTENT at OFFSET.  Raises ImageError."""
        self._request(_WRITE, offset, len(content), content)

    def flush(self) -> None:
        """Return when all that was written is in the image's file.  Raises ImageError."""
        self._request(_FLUSH, 0, 0)

    def _request(self, kind: int, offset: int, size: int, content: bytes = b"") -> None:
        header = struct.pack(">IHHQQI", _REQUEST_MAGIC, 0, kind, 0, offset, size)
        _send(self._connection, header + content)
        magic, error, _ = struct.unpack(">IIQ", _receive(self._connection, 16))
        if magic != _REPLY_MAGIC or error:
            raise ImageError(
                f"{size} bytes at {offset} could not be {_VERBS[kind]} (NBD error {error})"
            )

    def disconnect(self) -> None:
        """Tell the server that nothing follows; it has no answer to that."""
        _send(self._connection, struct.pack(">IHHQQI", _REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))


def negotiate(connection: socket.socket) -> Export:
    """Ask the server at CONNECTION for its default export.  Raises ImageError."""
    if _receive(connection, 16) != _SERVER_MAGIC:
        raise ImageError("this is no NBD server, or a very old one")
    (flags,) = struct.unpack(">H", _receive(connection, 2))
    ours = flags & (_FIXED_NEWSTYLE | _NO_ZEROES)
    option = struct.pack(">I8sII", ours, _SERVER_MAGIC[8:], _OPTION_EXPORT_NAME, 0)
    _send(connection, option)
    # The export's size and flags, which the caller knows; 124 zeros from servers of old.
    _receive(connection, 10 if ours & _NO_ZEROES else 134)
    return Export(connection)


def _send(connection: socket.socket, content: bytes) -> None:
    try:
        connection.sendall(content)
    except OSError as error:
        raise _broken(error) from error


def _broken(error: OSError) -> ImageError:
    return ImageError(f"the connection to the NBD server broke: {error}")


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray(size)
    view = memoryview(received)
    at = 0
    while at < size:
        try:
            count = connection.recv_into(view[at:])
        except OSError as error:
            raise _broken(error) from error
        if count == 0:
            raise ImageError("the NBD server closed the connection")
        at += count
    return bytes(received)


def _greets(connection: socket.socket) -> bool:
    """Whether the server at the other end of CONNECTION has said something."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


@contextmanager
def exported(image: Path, backing: Path) -> Iterator[Export]:
    """Serve the qcow2 IMAGE for the duration of the body, which may read and write it.

    It stands on BACKING.  The server is gone afterwards, and IMAGE complete.  Raises
    ImageError, and CommandFailedError if the server did not live to the end.
    """
    program = process.which("qemu-nbd", PACKAGE_HINT)
    # In a directory of its own, since the file name of a socket may not be long.
    with workplace() as directory:
        address = str(directory / "nbd")
        # What reaches the disk can wait until the file is done (`overlay.finish`).
        options = ["--socket", address, "--format=qcow2", "--cache=unsafe", "--persistent"]
        confined = Confinement(reads=(backing,), writes=(image,), listens=directory)
        with socket.socket(socket.AF_UNIX) as connection:

            def ready() -> bool:
                # It listens before it has opened the image, and may end for that.
                joined = connection.connect_ex(address) in {0, errno.EISCONN}
                return joined and _greets(connection)

            command = [str(program), *options, "--", str(image)]
            with daemon.serving(command, ready=ready, confined=confined):
                connection.settimeout(60)
                export = negotiate(connection)
                yield export
                export.flush()
                export.disconnect()
