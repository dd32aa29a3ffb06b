# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest boots by kexec: what its agent says, and what becomes of the line to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.guest.kexec import Reboot, boot_of
from pyguixvm.hypervisor.power import WaitSkippedError
from pyguixvm.hypervisor.time_limits import SilenceError

OLD = "11111111-2222-3333-4444-555555555555"
NEW = "66666666-7777-8888-9999-000000000000"
XML = """<domain type='kvm'><devices><channel type='unix'>
<target type='virtio' name='org.qemu.guest_agent.0' state='{}'/></channel></devices></domain>"""
NEVER = float("inf")


class Guest:
    """A guest with its own clock: what it does, it does from some second on, or never.

    TAKES: its agent answers when it is told to reboot.  Each second of CUT, the line is.
    """

    def __init__(
        self,
        *,
        leaves: float = NEVER,
        boots: float = NEVER,
        refuses: float = NEVER,
        takes: bool = True,
        cut: dict[int, Exception] | None = None,
    ) -> None:
        self.now = 0.0
        self.reboot = Reboot(self, OLD)
        self.leaves, self.boots, self.refuses = leaves, boots, refuses
        self.takes = takes
        self.cut = cut or {}

    def sleep(self, _seconds: float) -> None:
        self.now += 1

    def clock(self) -> float:
        return self.now

    def begin(self, skipped: Callable[[], bool] = lambda: False) -> None:
        self.reboot.begin(10, self.sleep, self.clock, skipped)

    def _reached(self) -> None:
        if int(self.now) in self.cut:
            raise self.cut[int(self.now)]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        self._reached()
        there = self.now < self.leaves or self.now >= self.boots
        return XML.format("connected" if there else "disconnected")

    def agentSetResponseTimeout(self, _seconds: int, _flags: int) -> None:  # noqa: N802
        self._reached()

    def _call(self, _name: str, _ask: object, given: tuple[Any, ...]) -> str:
        self._reached()
        request = json.loads(given[0])
        return json.dumps({"return": getattr(self, request["execute"].replace("-", "_"))()})

    def guest_exec(self) -> object:
        if not self.takes:
            self.now += 15
            raise libvirt.libvirtError("Guest agent is not responding")
        return {"pid": 7}

    def guest_exec_status(self) -> object:
        if self.now >= self.boots:
            raise libvirt.libvirtError("PID 7 does not exist")
        over = self.now >= self.refuses
        return {"exited": over, **({"exitcode": 69} if over else {})}

    def guest_file_open(self) -> object:
        return 3

    def guest_file_read(self) -> object:
        boot = NEW if self.now >= self.boots else OLD
        return {"count": 37, "buf-b64": base64.b64encode(f"{boot}\n".encode()).decode()}

    def guest_file_close(self) -> object:
        return {}


def test_a_guest_has_begun_when_its_services_have_stopped() -> None:
    guest = Guest(leaves=3, boots=6)
    guest.begin()
    assert guest.now == 3
    assert not guest.reboot.is_over()
    guest.now = 6
    assert guest.reboot.is_over()


@pytest.mark.parametrize(
    "error", [libvirt.libvirtError("the socket is closed"), SilenceError("ask", 30)]
)
def test_a_line_that_is_cut_is_no_boot(error: Exception) -> None:
    guest = Guest(leaves=4, boots=6, cut={1: error, 2: error})
    guest.begin()
    assert guest.now == 4
    away = Guest(cut={1: error})
    with pytest.raises(HypervisorError, match="not stopped in time"):
        away.begin()
    assert away.now == 10
    # Nobody was there while it stopped its services.
    unseen = Guest(leaves=2, boots=3, cut=dict.fromkeys((1, 2, 3, 4), error))
    unseen.begin()
    assert unseen.reboot.is_over()


def test_whoever_is_in_doubt_looks_which_boot_it_is() -> None:
    Guest(takes=False, leaves=1, boots=2).begin()
    with pytest.raises(HypervisorError, match="does not take that"):
        Guest(takes=False).begin()
    with pytest.raises(HypervisorError, match="cannot"):
        Guest(refuses=2).begin()


def test_a_person_need_not_wait_for_its_services() -> None:
    guest = Guest()
    with pytest.raises(WaitSkippedError):
        guest.begin(lambda: guest.now >= 3)
    assert guest.now == 3


@pytest.mark.parametrize("said", ["", OLD[:-1], OLD.replace("1", "A"), f"{OLD}\n{NEW}", "x" * 36])
def test_what_is_no_boot_is_none(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    assert boot_of(guest) == OLD
    told = {"count": 1, "buf-b64": base64.b64encode(said.encode()).decode()}
    monkeypatch.setattr(guest, "guest_file_read", lambda: told)
    assert boot_of(guest) is None
