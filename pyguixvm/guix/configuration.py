# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a configuration stands: in a file, or on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TypeAlias

import msgspec


class Expression(msgspec.Struct, frozen=True):
    """Scheme on the command line; what it loads is relative to the working directory."""

    text: str

    def __str__(self) -> str:
        """As a person types it."""
        return f"-e {shlex.quote(self.text)}"


Configuration: TypeAlias = Path | Expression


def asked_for(configuration: Configuration) -> object:
    """Return what a request names CONFIGURATION by, to become JSON."""
    if isinstance(configuration, Expression):
        return {"expression": configuration.text}
    return str(configuration.absolute())
