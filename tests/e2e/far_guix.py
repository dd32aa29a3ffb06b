# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a hypervisor with a Guix of its own, behind ssh.

usage: other-store far_guix.py DIRECTORY PORT

An ssh server whose logins see the other store, and the bed's libvirtd; it ends with its input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "libvirt"))

from metered import Meter  # noqa: E402
from sshd import ADDRESS, Sshd, sshd  # noqa: E402

OTHER_STORE = TESTS / "testbed/other-store"
# Where the Guix of the bed has its keys, seen from the bed.
OUR_KEYS = Path("/var/lib/pyguixvm-testbed/chroot/etc/guix")


@dataclass(frozen=True)
class FarGuix:
    """What is behind the ssh server SERVER; METER tells what goes there."""

    server: Sshd
    meter: Meter

    @property
    def uri(self) -> str:
        """The URI of its hypervisor, by a line that is metered."""
        return self.server.uri(command=self.server.client("metered", self.meter.option))

    def run(self, command: str, stdin: bytes = b"") -> str:
        """Return what the shell COMMAND there writes, which reads STDIN."""
        port = str(self.server.port)
        argv = [self.server.client(), "-p", port, f"root@{ADDRESS}", command]
        return subprocess.run(argv, input=stdin, capture_output=True, check=True).stdout.decode()

    def trust_us(self) -> None:
        """Have its Guix take store items from here."""
        self.run("guix archive --authorize", (OUR_KEYS / "signing-key.pub").read_bytes())

    def has(self, item: str) -> bool:
        """Whether ITEM is in its store."""
        return item in self.run(f"guix gc --references {item} && echo {item} || true")


@contextmanager
def far_guix(
    directory: Path, port: int, line: Path | None = None, **environment: str
) -> Iterator[FarGuix]:
    """Run the host, to which LINE leads; its files are in DIRECTORY.

    ENVIRONMENT is as other-store has it.
    """
    directory.mkdir()
    for each in (directory, *directory.parents[:3]):
        each.chmod(0o755)
    with subprocess.Popen(
        [OTHER_STORE, sys.executable, __file__, directory, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield FarGuix(Sshd(directory, port), Meter(directory / "meter", line))
        finally:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    with sshd(Path(sys.argv[1]), int(sys.argv[2]), SetEnv=f"PATH={os.environ['PATH']}"):
        print("ready", flush=True)
        sys.stdin.read()
