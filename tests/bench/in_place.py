# SPDX-License-Identifier: GPL-3.0-or-later
"""Another system in a guest that runs, beside a new machine by hand, and live beside that."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import by_hand
import ours
from measure import FailedCommandError, Row, compared, run
from workspace import Workspace

_CONFIG = Path(__file__).parents[1] / "e2e" / "configs" / "in-place.scm"
_SIGNING_KEY = Path("/var/lib/pyguixvm-testbed/chroot/etc/guix/signing-key.pub")


def activations(runs: int, work: Workspace) -> Iterator[Row]:
    """Edit a file in the system: activated in place, by hand until the guest is back, and live."""
    if not _SIGNING_KEY.exists():
        run("guix", "archive", "--generate-key")
    times, live = [], []
    with _login(work.directory):
        try:
            _declare(0)
            ours.deploy(_CONFIG)
            for number in range(1, max(1, runs // 2) + 1):
                _declare(2 * number)
                mine = ours.deploy(_CONFIG, "--strategy", "in-place")
                work.edit()
                times.append((mine, by_hand.deploy(work)))
                _declare(2 * number + 1)
                live.append((ours.deploy(_CONFIG, "--strategy", "live"), mine))
        finally:
            with suppress(FailedCommandError):
                run("pyguixvm", "undefine", "--yes", "--delete-data", "in-place")
            by_hand.remove()
    yield compared(
        "a file changed: in-place", [(m.seconds, h.seconds) for m, h in times],
        "all of it and the boot", note=f"of ours, Guix activates {mine.phases['activate']:.1f} s",
    )  # fmt: skip
    yield compared(
        "    the same live, beside in place", [(m.seconds, p.seconds) for m, p in live],
        "pyguixvm's in-place", goal=0.15,
    )  # fmt: skip


def _declare(number: int) -> None:
    os.environ["PYGUIXVM_TEST_EDITION"] = f"bench {number} {os.getpid()}"


@contextmanager
def _login(directory: Path) -> Iterator[None]:
    """Have an ssh agent hold a key that the guest lets in."""
    key, socket = directory / "key", directory / "agent"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.05)
        os.environ |= {
            "SSH_AUTH_SOCK": str(socket),
            "PYGUIXVM_TEST_KEY": f"{key}.pub",
            "GUILE_LOAD_PATH": str(_CONFIG.parents[1] / "modules"),
        }
        run("ssh-add", key)
        yield
    finally:
        agent.terminate()
        agent.wait()
