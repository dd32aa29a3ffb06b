# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking before something is lost."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from pyguixvm.errors import InterruptedRequestError, RequestRefusedError, UsageError
from pyguixvm.printable import printable

if TYPE_CHECKING:
    from pyguixvm.commands.undefine import Removal


def confirm_removals(command: str, removals: Iterable[Removal]) -> None:
    """Show REMOVALS and ask whether they are wanted, see `confirm`."""
    for removal in removals:
        kept = {(each.pool, each.volume) for each in removal.kept}
        gone = [volume for pool, volume in removal.wanted if (pool, volume) not in kept]
        volumes = ", ".join(gone) or "no volume"
        power = "powers it off, " if removal.running else ""
        stays = "".join(f"; {each}" for each in removal.kept)
        tell(f"{removal.machine}: {power}removes its definition and {volumes}{stays}")
        for pool, volume in removal.others if removal.delete_data else ():
            tell(f"{removal.machine}: leaves {volume} in pool {pool}")
    confirm(command)


def tell(text: str) -> None:
    """Say TEXT to whoever is about to be asked."""
    click.echo(printable(text), err=True)


def confirm(command: str, question: str = "Remove for good?") -> None:
    """Ask QUESTION: whether what COMMAND removes or changes, which was shown, may go.

    Raises UsageError if nobody can answer, RequestRefusedError if the answer
    is no, and InterruptedRequestError if it is Control-C.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{command} asks before it changes anything, and there is no terminal to answer on",
            hint="Give --yes if you are sure.",
        )
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        click.echo(err=True)  # the answer's line is still open
        if isinstance(error.__context__, KeyboardInterrupt):
            raise InterruptedRequestError("interrupted, nothing was changed") from None
        agreed = False  # ^D, the end of all answers
    if not agreed:
        raise RequestRefusedError(f"{command} was not confirmed, nothing was changed")
