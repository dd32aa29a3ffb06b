# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI firmware keeps of a machine that moves, where it comes from."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from shlex import quote

from pyguixvm.apply.moved_volumes import Move
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains, firmware_variables
from pyguixvm.model.arrival import SentVariables
from pyguixvm.model.volume_names import variables_volume


def are_as_sent(move: Move, variables: SentVariables, xml: str) -> bool:
    """Whether VARIABLES are at the source of MOVE as they were.

    The machine has XML there, and is off.  Raises RequestRefusedError if they were deleted: no
    copy is given up for that.
    """
    if not _are_of(move, variables, xml):
        return False
    held = firmware_variables.held(move.source, variables.path)
    if variables.digest is None:
        # There were none, and of what there is nothing was sent.
        return held is None
    if held is None:
        raise _gone(move, variables)
    return _digest(held) == variables.digest


def require_there(move: Move, variables: SentVariables, xml: str) -> None:
    """Raise RequestRefusedError if those that were sent are not at the source any more.

    The machine has XML there; firmware that it has no more is not missed.
    """
    sent = variables.digest is not None and _are_of(move, variables, xml)
    if sent and firmware_variables.held(move.source, variables.path) is None:
        raise _gone(move, variables)


def delete_left(move: Move, variables: SentVariables, *, lost: bool) -> list[str]:
    """Delete the file of VARIABLES at the source of MOVE, which has the machine no more.

    Return what is to be said of it.  It stays if the target LOST what was sent, if somebody
    wrote to it since, and unless it is the machine's alone: which file it is, others may have
    written into what the machine remembers.
    """
    path, where = variables.path, move.source.uri
    if domains.exists(move.source, move.name):
        # It is that one's, whoever made it.
        return []
    if not _is_called_so(move.name, path):
        return [f"{path}, if it is on {where}, stays: such variables are called otherwise"]
    if users := firmware_variables.users(move.source, path):
        return [f"{path} stays on {where}: it is of {', '.join(users)}, too"]
    held = firmware_variables.held(move.source, path)
    if lost:
        missing = f"{variables.volume}, of its firmware, is not on {move.target.uri}"
        return [f"{missing}, and is made anew" if held is None else f"{missing}: {path} stays"]
    if held is not None and variables.digest not in {None, _digest(held)}:
        return [f"{path} was written to since on {where}, and stays"]
    if held is not None:
        move.require()
        firmware_variables.delete(move.source, path)
    return []


def _are_of(move: Move, variables: SentVariables, xml: str) -> bool:
    """Whether the domain of XML, at the source, has VARIABLES, as far as that can be known."""
    return firmware_variables.file(move.source, move.name, xml) in {None, variables.path}


def _is_called_so(machine: str, path: str) -> bool:
    """Whether PATH is called as libvirt, or we, call what the firmware of MACHINE keeps."""
    name = PurePosixPath(path).name
    return name == variables_volume(machine) or name.startswith(f"{machine}_VARS.")


def _digest(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()


def _gone(move: Move, variables: SentVariables) -> RequestRefusedError:
    return RequestRefusedError(
        f"{variables.path}, what the firmware of '{move.name}' keeps, is not there any more on "
        f"{move.source.uri}, and was sent to {move.target.uri}",
        hint=f"Nothing was changed. If '{move.name}' is to be as it was sent, give up the other "
        f"one, and run the command again: virsh -c {quote(move.source.uri)} "
        f"undefine --nvram {move.name}",
    )
