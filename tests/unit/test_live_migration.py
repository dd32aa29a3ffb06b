# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a guest whose move failed it is said where it runs, if that is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.hypervisor.migration import Destination, Line, migrate

NO_JOB = [libvirt.VIR_DOMAIN_JOB_NONE] + [0] * 11
JOB = [libvirt.VIR_DOMAIN_JOB_UNBOUNDED] + [0] * 11
CUT = "Cannot recv data: Connection reset by peer"


class Listener:
    def progress(self, done: int, total: int) -> None:
        pass

    def in_the_clear(self, why: str) -> None:
        pass


class Guest:
    """A guest that cannot be moved, or of whose move nothing is heard any more."""

    def __init__(self, state: int | None, job: list[int]) -> None:
        self._state, self._job = state, job

    def migrateToURI3(self, *_arguments: Any) -> None:  # noqa: N802
        raise libvirt.libvirtError(CUT)

    def state(self) -> tuple[int, int]:
        if self._state is None:
            raise libvirt.libvirtError("Domain not found")
        return self._state, 1

    def jobInfo(self) -> list[int]:  # noqa: N802
        return self._job

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        return {}


@pytest.mark.parametrize(
    ("state", "job", "hint"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, NO_JOB, "It runs where it was"),
        # The two go on without us; it was over when we could ask again; it waits for its end.
        (libvirt.VIR_DOMAIN_RUNNING, JOB, "is not known"),
        (None, NO_JOB, "is not known"),
        (libvirt.VIR_DOMAIN_PAUSED, NO_JOB, "is not known"),
    ],
)
def test_where_it_runs_is_said_if_it_is_known(state: int | None, job: list[int], hint: str) -> None:
    guest: Any = Guest(state, job)
    there: Any = SimpleNamespace(uri="qemu+ssh://b/system")
    with pytest.raises(HypervisorError, match=CUT) as failed:
        migrate(Domain("web", "0" * 36, guest), there, Destination("", ""), Line(), Listener())
    assert hint in (failed.value.hint or "")
