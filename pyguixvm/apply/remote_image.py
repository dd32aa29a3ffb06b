# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from elsewhere are fetched, before a root is made of them."""

from __future__ import annotations

from pathlib import Path

from pyguixvm.apply.context import Workshop
from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.remote import FetchError, fetch, format_of
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.actions import FetchImage


def fetched(machine: VirtualMachine, action: FetchImage, workshop: Workshop) -> None:
    """Have the image of ACTION on this machine, once for all machines that are made of it.

    Raises FetchError, and RequestRefusedError if it is of another format than MACHINE declares.
    """
    path = Path(action.path)
    with workshop.turns.at(action.path):
        try:
            fetch(action.url, action.digest, path, workshop.emit, machine.name)
        except FetchError as error:
            error.location = str(machine.location)
            raise
    found = format_of(path)
    if found != action.format:
        raise RequestRefusedError(
            f"{action.url} is {found}, and declared to be {action.format}",
            hint=f'Declare (format "{found}").',
            location=str(machine.location),
        )
