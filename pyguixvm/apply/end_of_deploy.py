# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine remembers how the deploy ended that changed it, and how long that took."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor import domains


def remember_end(name: str, workshop: Workshop, *, failed: bool) -> None:
    """Note at the current generation of NAME that what began with WORKSHOP is over, if it is not.

    FAILED: it did not do all that it was to.  A machine that was not changed has nothing to
    note.  That nothing can be noted is no reason to fail, nor a better one than there is.
    """
    with suppress(PyguixvmError, LookupError):
        found = domains.find_definition(workshop.connection, name)
        if found is None:
            return
        _, metadata, domain = found
        current, over = metadata.generation, workshop.deploy(over=True, failed=failed)
        begun = current.deploy
        if begun is None or begun.seconds is not None or begun.date != over.date:
            return
        workshop.require(name)
        ended = msgspec.structs.replace(current, deploy=over)
        domains.write_metadata(workshop.connection, domain, metadata.having(ended))
