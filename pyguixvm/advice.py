# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as people are told to type them."""

from __future__ import annotations

import shlex


def words(*names: str) -> str:
    """Return NAMES, which may be anything, as arguments that a shell and a command take as such.

    >>> words("web", "before the update"), words("-x")
    ("web 'before the update'", '-- -x')
    """
    options = any(name.startswith("-") for name in names)
    return shlex.join(("--", *names) if options else names)
