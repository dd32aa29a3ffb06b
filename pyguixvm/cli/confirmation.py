# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking before something is lost."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from pyguixvm.errors import UsageError

if TYPE_CHECKING:
    from pyguixvm.operations import Removal


def confirm_removals(command: str, removals: Iterable[Removal]) -> None:
    """Ask whether REMOVALS are wanted; raises Abort if not, UsageError if nobody can answer."""
    for removal in removals:
        volumes = ", ".join(volume for _, volume in removal.volumes) or "no volume"
        power = "powers it off, " if removal.running else ""
        click.echo(f"{removal.machine}: {power}removes its definition and {volumes}", err=True)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{command} asks before it removes anything, and there is no terminal to answer on",
            hint="Give --yes if you are sure.",
        )
    click.confirm("Remove for good?", abort=True, err=True)
