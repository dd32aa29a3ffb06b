# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the exporter listens."""

from __future__ import annotations

import re

from pyguixvm.errors import UsageError

DEFAULT = "127.0.0.1:9177"
_LAST_PORT = 65535
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})")


def parsed(given: str) -> tuple[str, int]:
    """Return host and port of GIVEN.  Raises UsageError.

    >>> parsed("[::1]:9177")
    ('::1', 9177)
    """
    found = _ADDRESS.fullmatch(given)
    if found is None or int(found["port"]) > _LAST_PORT:
        raise UsageError(
            f"'{given}' is no address to listen at",
            hint=f"Write ADDRESS:PORT, such as {DEFAULT} or [::1]:9177; port 0 is any free one.",
        )
    return found["six"] or found["host"], int(found["port"])
