# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of whole deployments begin and end with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from running import MODULES, pyguixvm


@pytest.fixture(scope="module", autouse=True)
def in_common(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have configurations find what they have in common, wherever a test copies one to.

    What users see as it is, has nothing of that.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "AS_USERS_HAVE_IT", False):
            patch.setenv("GUILE_LOAD_PATH", str(MODULES), prepend=os.pathsep)
        yield


@pytest.fixture
def clean() -> Iterator[Callable[[str], None]]:
    """Yield a function that names machines to be removed at the end, whatever happened."""
    names: list[str] = []
    yield names.append
    for name in names:
        pyguixvm("undefine", "--yes", name)
