# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that are told."""

from __future__ import annotations

import pytest

from pyguixvm.errors import HypervisorError, PyguixvmError, RequestRefusedError
from pyguixvm.hypervisor.time_limits import SilenceError

ERRORS = [
    RequestRefusedError("no", hint="say yes", location="c.scm:1:2"),
    HypervisorError("gone", hint="start it"),
    # Its class takes something else than a message.
    SilenceError("connect", 30),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_is_added_to_an_error_leaves_all_else_of_it(error: PyguixvmError) -> None:
    before = error.message
    longer = error.adding("'web' was left as it is")
    assert type(longer) is type(error)
    assert longer.message == str(longer) == f"{before}; 'web' was left as it is"
    assert (longer.hint, longer.location) == (error.hint, error.location)
    assert longer.status == error.status
    assert error.message == before
