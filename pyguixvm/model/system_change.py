# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two operating systems, as a person would name it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Change: TypeAlias = Literal["came", "went", "changed"]


class SystemChange(msgspec.Struct, frozen=True, rename="kebab"):
    """NAME came, went or changed between two systems.

    A package has its version in its name; all that is neither that nor a service counts as
    a file.
    """

    kind: Literal["package", "service", "file"]
    name: str
    change: Change
