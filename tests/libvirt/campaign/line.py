# SPDX-License-Identifier: GPL-3.0-or-later
"""A line to libvirtd that can be cut."""

import contextlib
import socket
import threading

LIBVIRTD = "/run/libvirt/libvirt-sock"


class Line:
    """What passes on what is said at the socket PATH, to libvirtd and back."""

    def __init__(self, path):
        self.uri = f"qemu+unix:///system?socket={path}"
        self._ends = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Cut all connections; the next ones are made."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Cut all connections, and accept no more."""
        self._listener.close()
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(LIBVIRTD)
                except OSError:
                    near.close()
                    continue
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
