# SPDX-License-Identifier: GPL-3.0-or-later
"""Some dozens of random acts of operators and of others; `make campaign` does more of them."""

import os

import pytest
from campaign.rounds import Campaign


@pytest.fixture
def directory(tmp_path_factory):
    """A directory that QEMU's user can look into."""
    made = tmp_path_factory.mktemp("campaign")
    for each in (made, *made.parents[:2]):
        each.chmod(0o755)
    return made


@pytest.mark.parametrize("seed", [3])
def test_whatever_others_do_nothing_is_lost(directory, seed):
    campaign = Campaign(f"test{os.getpid()}-c", directory, seed, 30)
    assert campaign.run() == []
    assert campaign.acts >= 30
