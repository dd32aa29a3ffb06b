# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for work, and what is left of them by those who were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pyguixvm.image.workplace import workplace

KILLED = (
    "import os, signal, sys; from pathlib import Path\n"
    "from pyguixvm.image.workplace import workplace\n"
    "with workplace(Path(sys.argv[1])) as work:\n"
    "    (work / 'overlay').touch()\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def age(directory: Path) -> None:
    os.utime(directory, (time.time() - 60,) * 2)


def test_it_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    with workplace(tmp_path) as work:
        (work / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with workplace(tmp_path):
        # It might be somebody's who is just beginning.
        assert left.exists()
    age(left)
    with workplace(tmp_path) as work:
        assert list(tmp_path.iterdir()) == [work]


def test_nobody_elses_work_is_touched(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    age(others)
    with workplace(tmp_path) as first:
        age(first)
        with workplace(tmp_path) as second:
            assert {first, second, others} == set(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_another_users_temporary_directory_is_not_worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns it can put another one in the place of ours, with links in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with workplace() as work:
        assert work.parent == tmp_path
    os.chown(tmp_path, 1234, 1234)
    with workplace() as work:
        assert work.parent == Path("/tmp")
