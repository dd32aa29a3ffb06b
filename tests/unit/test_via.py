# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way an image goes to a hypervisor elsewhere, and what that is called."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor.far_guix import FarGuix, FarGuixError, UnauthorizedError
from pyguixvm.model.transfer import Lacking, Transfer
from pyguixvm.plan.transfer import WORTH, by_store, chosen, in_words, is_worth_asking

MIB = 1024**2
SIZES = {"/gnu/store/a": 10 * MIB, "/gnu/store/b": 20 * MIB, "/gnu/store/c": 30 * MIB}
LACKING = Lacking(frozenset({"/gnu/store/a", "/gnu/store/b"}), {"/gnu/store/b": 7 * MIB})


def test_only_what_it_cannot_fetch_is_sent() -> None:
    store = by_store(SIZES, LACKING, 3 * MIB)
    assert store == Transfer("store", 13 * MIB, 3, 1, 1, 7 * MIB)
    assert in_words(store) == (
        "composed there of 3 store items, of which 1 are sent and 1 are fetched by its host (7M): "
        "13M to send, before compression"
    )
    all_there = by_store(SIZES, Lacking(), 3 * MIB)
    assert in_words(all_there) == (
        "composed there of 3 store items, all of which are there: 3M to send, before compression"
    )


def test_auto_takes_what_sends_less_and_store_what_it_says() -> None:
    store = by_store(SIZES, LACKING, 3 * MIB)
    assert chosen("auto", 14 * MIB, store) is store
    assert chosen("store", 12 * MIB, store) is store
    less = chosen("auto", 13 * MIB, store)
    assert (less.way, less.size, less.reason) == (
        "upload",
        13 * MIB,
        "by store items, no less would be sent",
    )


def test_where_it_is_not_possible_auto_says_why_and_store_is_refused() -> None:
    why = HypervisorError("there is no guix on its host", hint="Install it.")
    assert chosen("auto", MIB, why) == Transfer("upload", MIB, reason=why.message)
    with pytest.raises(RequestRefusedError, match="no guix on its host") as refused:
        chosen("store", MIB, why)
    assert refused.value.hint == ("Install it.  With --via auto, the image itself is sent then.")


def test_nobody_is_asked_for_little() -> None:
    assert is_worth_asking("auto", WORTH)
    assert not is_worth_asking("auto", WORTH - 1)
    assert not is_worth_asking("store", WORTH - 1)
    assert not is_worth_asking("upload", 100 * WORTH)


def far(tmp_path: Path, says: str, status: int = 0) -> FarGuix:
    """Return a Guix whose host's shell says so, whatever it is asked."""
    command = tmp_path / "ssh"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\nprint({says!r})\n"
        f"print('ssh: gone', file=sys.stderr)\nsys.exit({status})\n"
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    program = tmp_path / "program.scm"
    program.write_text("(program)\n")
    return FarGuix(f"qemu+ssh://root@host/system?command={command}", program)


def test_what_is_lacking_is_told(tmp_path: Path) -> None:
    says = (
        "(repl-version 0 1 1)\npyguixvm lacks /gnu/store/a\npyguixvm lacks /gnu/store/b\n"
        "pyguixvm fetches /gnu/store/b 70\npyguixvm fetches /gnu/store/z 70\npyguixvm done"
    )
    found = far(tmp_path, says).lacking(SIZES, "/pool")
    assert found == Lacking(frozenset({"/gnu/store/a", "/gnu/store/b"}), {"/gnu/store/b": 70})
    assert found.sent == {"/gnu/store/a"}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("pyguixvm none", "there is no guix on its host"),
        ("pyguixvm closed\npyguixvm done", "its login may not write to /pool"),
        ("pyguixvm failed No space left on device", "says: No space left on device"),
        ("pyguixvm refused \x1b[31mno", r"says: \\x1b\[31mno"),
        ("pyguixvm lacks /gnu/store/a", "does not answer: ssh: gone"),
        ("", "does not answer: ssh: gone"),
    ],
)
def test_what_fails_is_told_in_a_sentence(tmp_path: Path, says: str, why: str) -> None:
    with pytest.raises(FarGuixError, match=why):
        far(tmp_path, says, status=255).lacking(SIZES, "/pool")


def test_a_key_that_is_not_known_matters_if_something_is_sent(tmp_path: Path) -> None:
    stranger = "pyguixvm unknown-key\n"
    assert far(tmp_path, f"{stranger}pyguixvm done").lacking(SIZES, "/pool") == Lacking()
    with pytest.raises(UnauthorizedError):
        far(tmp_path, f"{stranger}pyguixvm lacks /gnu/store/a\npyguixvm done").lacking(
            SIZES, "/pool"
        )


def test_only_a_host_behind_ssh_is_asked(tmp_path: Path) -> None:
    with pytest.raises(FarGuixError, match="no shell of its host"):
        FarGuix("qemu+tls://host/system", tmp_path / "program").lacking(SIZES, "/pool")
