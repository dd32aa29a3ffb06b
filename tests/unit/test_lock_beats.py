# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the beats of a lock go."""

from __future__ import annotations

import pytest

from pyguixvm.hypervisor.uri import unasked, without_unasked


@pytest.mark.parametrize(
    ("uri", "own"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+tls://far/system", "qemu+tls://far/system"),
        ("qemu+ssh:///system", "qemu+ssh:///system?no_tty=1"),
        ("qemu+ssh://me@far/system?socket=/x", "qemu+ssh://me@far/system?socket=/x&no_tty=1"),
    ],
)
def test_nobody_is_asked_for_a_password_in_the_middle(uri: str, own: str) -> None:
    assert unasked(uri) == own
    assert without_unasked(own) == uri
    assert without_unasked(uri) == uri
