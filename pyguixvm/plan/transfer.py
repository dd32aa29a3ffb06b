# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way an image goes to a hypervisor elsewhere, and how much that sends; pure."""

from __future__ import annotations

from collections.abc import Mapping

from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.model.sizes import format_size
from pyguixvm.model.transfer import Lacking, Transfer, Via

# What a hypervisor's Guix has to save (bytes) for it to be asked: that takes about two seconds
# each for what it lacks and for the image, in which a line of 20 Mbit/s carries so much.
WORTH = 8 * 1024**2


def as_root(via: Via) -> Via:
    """Return how what changed since an image gets there, whose way is VIA, with its root.

    That is little, as a rule, and never worth more than an upload.
    """
    return "upload" if via == "upload" else "auto"


def is_worth_asking(via: Via, copied: int) -> bool:
    """Whether the Guix of a hypervisor is asked, as VIA wants, for what is COPIED (bytes) there."""
    return via != "upload" and copied >= WORTH


def by_store(sizes: Mapping[str, int], lacking: Lacking, besides: int) -> Transfer:
    """Return what it takes to compose an image of items, and of BESIDES, bytes that are in none.

    SIZES are those of all its items (bytes).
    """
    return Transfer(
        "store",
        besides + sum(sizes[item] for item in lacking.sent),
        items=len(sizes),
        sent=len(lacking.sent),
        fetched=len(lacking.fetched),
        fetched_size=sum(lacking.fetched.values()),
    )


def in_words(transfer: Transfer) -> str:
    """Return what TRANSFER, by the store, comes to, for people."""
    missing = [f"{transfer.sent} are sent"] if transfer.sent else []
    if transfer.fetched:
        size = format_size(transfer.fetched_size)
        missing.append(f"{transfer.fetched} are fetched by its host ({size})")
    of = f"composed there of {transfer.items} store items"
    lacking = f", of which {' and '.join(missing)}" if missing else ", all of which are there"
    return f"{of}{lacking}: {format_size(transfer.size)} to send, before compression"


def chosen(via: Via, upload: int, store: Transfer | PyguixvmError) -> Transfer:
    """Return the way that VIA asks for: an upload of so many bytes, or by STORE.

    If that is not possible, it is the error that says why.  Raises RequestRefusedError.
    """
    if isinstance(store, Transfer):
        if via == "store" or store.size < upload:
            return store
        return Transfer("upload", upload, reason="by store items, no less would be sent")
    if via == "store":
        raise RequestRefusedError(
            f"the image cannot be composed on the hypervisor's host: {store.message}",
            hint=f"{store.hint or 'It is behind qemu+ssh://, with a Guix.'}  With --via auto, the "
            "image itself is sent then.",
        )
    return Transfer("upload", upload, reason=store.message)
