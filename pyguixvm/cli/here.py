# SPDX-License-Identifier: GPL-3.0-or-later
"""The session that a verb works in."""

from __future__ import annotations

import os
import threading
from urllib.parse import urlsplit

from pyguixvm.cli.options import Options
from pyguixvm.cli.output import Output
from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
from pyguixvm.events import in_turn, undisturbed


def session(options: Options, output: Output) -> Session:
    """Return the session that OPTIONS ask for, showing events through OUTPUT.

    Raises UsageError if they, or the environment, name a hypervisor by what is no URI.
    """
    # Machines that are changed side by side all tell the one that prints.
    printing = threading.RLock()
    made = Session(
        uri=options.uri,
        options=tuple(options.build_options),
        environment=dict(os.environ),
        emit=undisturbed(in_turn(printing, output.emit)),
        forward=undisturbed(in_turn(printing, output.forward)),
        load_path=tuple(options.load_path),
        verify=options.verify,
        via=options.via,
    )
    _require_uri(made.given_uri or "")
    return made


def _require_uri(uri: str) -> None:
    try:
        urlsplit(uri)
    except ValueError as error:
        raise UsageError(
            f"'{uri}' is no URI of a hypervisor: {error}",
            hint="Such are qemu:///system and qemu+ssh://root@HOST/system; an IPv6 address is "
            "written in brackets.",
        ) from error
