# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data and JSON become structures, in whichever thread.

What msgspec needs to know of a structure it finds out when one is first read, and has it seen
half done by a thread that reads another one meanwhile: the process crashes (msgspec 0.18 to 0.22).
So one thread at a time finds that out, and nothing else here has msgspec read structures.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from msgspec import inspect

_Type = TypeVar("_Type")

_finding_out = threading.Lock()
_found_out: set[Any] = set()


def decode(data: bytes | str, kind: type[_Type]) -> _Type:
    """Return what the JSON in DATA says, which is of KIND.  Raises msgspec.DecodeError."""
    _find_out(kind)
    return msgspec.json.decode(data, type=kind)


def convert(data: object, kind: type[_Type]) -> _Type:
    """Return plain DATA as what it is to be, of KIND.  Raises msgspec.ValidationError."""
    _find_out(kind)
    return msgspec.convert(data, kind)


def made_of(kind: Any) -> inspect.Type:
    """Return what KIND is made of: to find that out takes longer than to read some."""
    with _finding_out:
        return _made_of(kind)


def _find_out(kind: Any) -> None:
    if kind not in _found_out:
        with _finding_out:
            msgspec.json.Decoder(kind)
            _found_out.add(kind)


@cache
def _made_of(kind: Any) -> inspect.Type:
    from msgspec import inspect

    return inspect.type_info(kind)
