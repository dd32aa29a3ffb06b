# SPDX-License-Identifier: GPL-3.0-or-later
"""An ssh server of the tests' own, on loopback in the bed's network, with keys made for it."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ADDRESS = "127.0.0.1"
# Whose login it lets in with the key of "user".
_OPTIONS = {
    "StrictModes": "no",
    "UsePAM": "no",
    "PidFile": "none",
    "PermitRootLogin": "prohibit-password",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    # It takes half as long to agree on as what is asked for otherwise.
    "KexAlgorithms": "curve25519-sha256",
    "Subsystem": "sftp internal-sftp",
}


@dataclass(frozen=True)
class Sshd:
    """A server at PORT; what a client needs is in DIRECTORY."""

    directory: Path
    port: int

    def known_hosts(self, of: str = "host", name: str = "known_hosts") -> Path:
        """Return a file NAME by which a client takes the server for OF."""
        algorithm, key, *_ = (self.directory / f"{of}.pub").read_text().split()
        file = self.directory / name
        file.write_text(f"[{ADDRESS}]:{self.port} {algorithm} {key}\n")
        return file

    def client(self, name: str = "ssh", *options: str, known: Path | None = None) -> Path:
        """Return an ssh command NAME, with OPTIONS, that knows only what is KNOWN."""
        given = " ".join(f"-o {option}" for option in options)
        file = self.directory / name
        file.write_text(
            f"#!/bin/sh\nexec ssh -F none -i {self.directory}/user -o IdentitiesOnly=yes "
            f'-o UserKnownHostsFile={known or self.known_hosts()} {given} "$@"\n'
        )
        file.chmod(0o755)
        return file

    def uri(self, user: str = "root", transport: str = "ssh", **parameters: object) -> str:
        """Return the URI of the hypervisor behind it for USER, with PARAMETERS."""
        query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
        return f"qemu+{transport}://{user}@{ADDRESS}:{self.port}/system?{query}"


@contextmanager
def sshd(directory: Path, port: int, **options: str) -> Iterator[Sshd]:
    """Run a server at PORT whose files are in DIRECTORY, with OPTIONS of sshd_config(5)."""
    for name in ("host", "user", "stranger"):
        if not (directory / name).exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True
            )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    settings = _OPTIONS | {
        "ListenAddress": f"{ADDRESS}:{port}",
        "HostKey": str(directory / "host"),
        "AuthorizedKeysFile": str(directory / "user.pub"),
        **options,
        # A shell in another one does not read what somebody has put in their ~/.bashrc,
        # which may take longer than all of a login.
        "SetEnv": f"SHLVL=1 {options.get('SetEnv', '')}",
    }
    config = directory / f"sshd_config-{port}"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    log = directory / f"log-{port}"
    server = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", config],
        stderr=log.open("wb"),
        env=os.environ | {"PATH": "/usr/bin:/bin"},
    )
    try:
        _await(server, log, port)
        yield Sshd(directory, port)
    finally:
        server.terminate()
        server.wait(timeout=10)


def _await(server: subprocess.Popen[bytes], log: Path, port: int) -> None:
    deadline = time.monotonic() + 30
    while not _listens(port):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((ADDRESS, port)) == 0
