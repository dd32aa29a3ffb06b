# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to outlive a command is in a place of who runs it."""

import os
import pwd
from pathlib import Path

import pytest

from pyguixvm.state_directory import state_directory

MINE = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".local/state/pyguixvm"


def test_it_is_where_the_environment_says(tmp_path):
    assert state_directory({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "pyguixvm"
    assert state_directory({"HOME": str(tmp_path)}) == tmp_path / ".local/state/pyguixvm"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": ""},
        {"HOME": "here"},
        {"HOME": "/not/there"},
        {"HOME": "/proc/nonexistent"},
        {"HOME": "", "XDG_STATE_HOME": ""},
        {"HOME": "", "XDG_STATE_HOME": "state"},
    ],
)
def test_what_is_no_home_is_not_written_to(environment):
    assert state_directory(environment) == MINE


def test_another_users_home_is_not_written_to(tmp_path):
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    theirs = tmp_path if os.geteuid() == 0 else Path("/")
    assert state_directory({"HOME": str(theirs)}) == MINE


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to another user")
def test_a_place_that_another_user_can_exchange_is_not_written_to(tmp_path):
    """As 'sudo -E' and 'su' leave it: root would follow the links that are put there."""
    theirs = tmp_path / "theirs"
    mine = theirs / "mine"
    mine.mkdir(parents=True)
    for each in (theirs, mine, mine / "not-yet"):
        assert state_directory({"XDG_STATE_HOME": str(each)}) == each / "pyguixvm"
    os.chown(theirs, 1234, 1234)
    (tmp_path / "link").symlink_to(mine)
    for each in (theirs, theirs / "not-yet", mine, mine / "not-yet", tmp_path / "link"):
        assert state_directory({"XDG_STATE_HOME": str(each)}) == MINE
    # It is where it leads now that counts, not where another user may have it lead later.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (theirs / "link").symlink_to(elsewhere)
    for name in ("XDG_STATE_HOME", "HOME"):
        found = state_directory({name: str(theirs / "link")})
        assert found.is_relative_to(elsewhere)
    os.chown(theirs, 0, 0)
    theirs.chmod(0o777)
    assert state_directory({"XDG_STATE_HOME": str(theirs)}) == MINE
    theirs.chmod(0o1777)
    assert state_directory({"XDG_STATE_HOME": str(theirs)}) == theirs / "pyguixvm"
    # Whoever makes it first has it be theirs.
    assert state_directory({"XDG_STATE_HOME": str(theirs / "not-yet")}) == MINE
