# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a change in place talks to is the machine's guest, whatever else answers at its address."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from running import command
from sshd import ADDRESS, sshd

ROOT = Path(__file__).parents[2]
UUID = "3b1c2d4e-1111-4222-8333-444455556666"
ASK = """
(use-modules (pyguixvm machine in-place) (tests systems) (guix diagnostics) (srfi srfi-34))
(guard (c ((formatted-message? c)
           (apply format #t (formatted-message-string c) (formatted-message-arguments c))))
  ((@@ (pyguixvm machine in-place) require-identity)
   (host-machine %os "{address}" {port} "{key}") "{uuid}")
  (display "it is"))
"""


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (f"echo {UUID}", "it is"),
        (f"echo {UUID.upper()}", "it is"),
        ("echo aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", "is not the guest of that machine"),
        ("true", "is not the guest of that machine"),
        ("false", "is not the guest of that machine"),
    ],
)
def test_what_answers_has_to_be_the_guest(tmp_path: Path, says: str, expected: str) -> None:
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
    agent = tmp_path / "agent"
    with (
        sshd(tmp_path, 2290, ForceCommand=says) as server,
        subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL) as held,
    ):
        try:
            while not agent.exists():
                assert held.poll() is None
            added = command("ssh-add", "-q", tmp_path / "user", SSH_AUTH_SOCK=str(agent))
            assert added.status == 0, added.err
            key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
            script = tmp_path / "ask.scm"
            script.write_text(ASK.format(address=ADDRESS, port=server.port, key=key, uuid=UUID))
            paths = ("-L", ROOT / "guix", "-L", ROOT / "tests/scheme")
            environment = os.environ | {"SSH_AUTH_SOCK": str(agent), "GUILE_AUTO_COMPILE": "0"}
            said = command("guix", "repl", *paths, "--", script, **environment)
        finally:
            held.terminate()
    assert expected in said.out, said.err
