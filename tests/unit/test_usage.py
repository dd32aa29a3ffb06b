# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be deleted."""

from __future__ import annotations

import pytest

from pyguixvm.model.usage import Usage

# A domain on an overlay on two generations on a base, and an overlay that nobody uses.
USAGE = Usage(
    domains={"web": frozenset({"/p/g2"}), "rescue": frozenset({"/home/overlay", "/dev/sda"})},
    volumes={("p", name): f"/p/{name}" for name in ("base", "g1", "g2", "g3", "spare")},
    backing={
        "/home/overlay": "/p/g1",
        "/p/g1": "/p/base",
        "/p/g2": "/p/g1",
        "/p/g3": "/p/g3",
        "/p/spare": "/p/g2",
    },
)
RESCUE = "domain 'rescue' uses it"
WEB = "domain 'web' uses it"
SPARE = "volume 'spare' of pool 'p' stands on it"


@pytest.mark.parametrize(
    ("wanted", "leaving", "kept"),
    [
        ("g1 g2", (), {"g1": RESCUE, "g2": WEB}),
        ("g1 g2", {"web"}, {"g1": RESCUE, "g2": SPARE}),
        ("g1 g2 spare", {"web"}, {"g1": RESCUE}),
        ("g1 g2 spare", {"web", "rescue"}, {}),
        ("base", {"web", "rescue"}, {"base": SPARE}),
        ("g3 vanished", (), {}),
    ],
)
def test_what_something_uses_stays(wanted: str, leaving: set[str], kept: dict[str, str]) -> None:
    found = USAGE.kept([("p", name) for name in wanted.split()], leaving)
    assert {each.volume: each.reason for each in found} == kept
