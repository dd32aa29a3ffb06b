# SPDX-License-Identifier: GPL-3.0-or-later
"""What the structures of a declaration have in common."""

from __future__ import annotations

import msgspec


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Common options: immutable, strict, keys spelled as in Scheme."""
