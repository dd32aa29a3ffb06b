# SPDX-License-Identifier: GPL-3.0-or-later
"""What others built is fetched rather than built, as the user says, and how much is shown.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_substitutes.py``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from processes import processes_naming
from running import EXAMPLES, command, pyguixvm
from waiting import eventually

pytestmark = pytest.mark.guix

OTHER_STORE = Path(__file__).parents[1] / "testbed/other-store"
CONFIG = EXAMPLES / "minimal.scm"


def build(options: str) -> list[str]:
    """Return what builds in a store that is empty, with OPTIONS, words of the shell."""
    return [str(OTHER_STORE), "sh", "-c", f"exec pyguixvm -v build {options} {CONFIG}"]


def test_an_image_is_fetched() -> None:
    built = pyguixvm("-q", "build", CONFIG)
    assert built.status == 0, built.err

    fetched = command(*build('--substitute-urls="$SUBSTITUTES"'))
    assert fetched.status == 0, fetched.err
    assert fetched.out == built.out
    image = Path(built.out.strip()).name.partition("-")[2]
    # What, how fast, and how much.
    assert re.search(rf"{image} .*[KM]iB/s .*[MG]iB transferred", fetched.err)
    assert "building /gnu/store" not in fetched.err


def test_a_store_does_not_outlive_who_made_it() -> None:
    """Even if that is killed: what runs there ends at once, its files go with the next one."""

    shell = [str(OTHER_STORE), "sh", "-c", 'echo "$XDG_RUNTIME_DIR"; exec sleep 300']
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        store = Path(process.stdout.readline().strip()).parent
        assert processes_naming(store)
        # Nor does another one that is made meanwhile take it away.
        assert command(OTHER_STORE, "true").status == 0
        assert (store / "store").is_dir()
        process.kill()
    # One that ends has no arguments any more, and still holds its files for a moment.
    eventually(lambda: not processes_naming(store) and not is_held(store), 10)
    assert command(OTHER_STORE, "true").status == 0
    assert not store.exists()


def is_held(store: Path) -> bool:
    return command("flock", "--nonblock", store, "true").status != 0


def places_of_root() -> set[Path]:
    """Return where builders are, or were, that run as root, in the directory of all."""
    found = set()
    for place in Path("/tmp").glob("guix-build-*"):
        # Others' builds end meanwhile.
        with suppress(FileNotFoundError):
            found |= {place} if place.stat().st_uid == 0 else set()
    return found


def test_nothing_is_fetched_against_ones_will() -> None:
    before = places_of_root()
    process = subprocess.Popen(
        build('--no-substitutes --substitute-urls="$SUBSTITUTES"'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    with process, process.stdout as lines:
        said = []
        for line in lines:
            said.append(line)
            if "building /gnu/store" in line:
                os.killpg(process.pid, signal.SIGTERM)
    text = "".join(said)
    assert "building /gnu/store" in text
    assert "transferred" not in text
    assert "substitut" not in text
    assert places_of_root() <= before
