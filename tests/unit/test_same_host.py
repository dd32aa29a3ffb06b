# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a line that is made again leads to the same host."""

from __future__ import annotations

import libvirt
import pytest

from pyguixvm.hypervisor.same_host import AnotherHostError, SameHost

ONE, OTHER = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"


class Host:
    """A connection to the host NAME of UUID, which is that of its BOARD or made up."""

    def __init__(self, name: str, uuid: str = ONE, *, board: bool = True) -> None:
        self.name, self.uuid, self.board = name, uuid, board

    def getHostname(self) -> str:  # noqa: N802 -- as libvirt has it
        return self.name

    def getCapabilities(self) -> str:  # noqa: N802 -- as libvirt has it
        return f"<capabilities><host><uuid>{self.uuid}</uuid></host></capabilities>"

    def getSysinfo(self, _flags: int = 0) -> str:  # noqa: N802 -- as libvirt has it
        if not self.board:
            raise libvirt.libvirtError("Host SMBIOS information is not available")
        return f"<sysinfo><system><entry name='uuid'>{self.uuid.upper()}</entry></system></sysinfo>"


def kept(first: Host, *, known: bool = True) -> SameHost:
    """Return what is kept of FIRST; its capabilities are KNOWN."""
    host = SameHost("qemu+ssh://there/system", first.getHostname())
    host.capabilities = first.getCapabilities if known else lambda: None
    return host


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "next_one",
    [
        Host("one"),
        # Of a libvirtd that was started again, and cannot read the board's.
        Host("one", OTHER, board=False),
    ],
)
def test_it_goes_on_with_the_same(next_one: Host, known: bool) -> None:
    kept(Host("one"), known=known).require(next_one)


@pytest.mark.parametrize(
    ("next_one", "named"),
    [
        (Host("other", OTHER), f"other ({OTHER})"),
        # Some vendors give one to all their boards.
        (Host("other"), f"other ({ONE})"),
        (Host("one", OTHER), f"one ({OTHER})"),
    ],
)
def test_it_does_not_with_another(next_one: Host, named: str) -> None:
    with pytest.raises(AnotherHostError) as refused:
        kept(Host("one")).require(next_one)
    assert named in refused.value.message
    assert f"one ({ONE})" in refused.value.message
    assert refused.value.hint


def test_a_name_is_enough_where_no_more_is_known() -> None:
    with pytest.raises(AnotherHostError, match="leads to other, and led to one before"):
        kept(Host("one"), known=False).require(Host("other"))
    SameHost("qemu+ssh://there/system", None).require(Host("other"))
