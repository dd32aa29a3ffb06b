# SPDX-License-Identifier: GPL-3.0-or-later
"""What the URI of a hypervisor says; nobody is asked (https://libvirt.org/uri.html)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

# What in a URI's query asks for a connection that only looks.
_READ_ONLY = frozenset({"ro", "ro=1"})
_UNASKED = "no_tty=1"


def is_local(uri: str) -> bool:
    """Whether URI names this very machine.

    It names no host and no socket: a socket may be the end of a tunnel.
    """
    parts = urlsplit(uri)
    _, _, transport = parts.scheme.partition("+")
    return (
        not parts.netloc
        and transport in ("", "unix")
        and not {"socket", "proxy"} & parse_qs(parts.query).keys()
    )


def may_ask(uri: str | None) -> bool:
    """Whether connecting to URI may ask a person for a password."""
    return "+ssh:" in (uri or "")


def unasked(uri: str) -> str:
    """Return URI such that ssh asks for no password: nobody expects that in the middle."""
    return f"{uri}{'&' if '?' in uri else '?'}{_UNASKED}" if _by_ssh(uri) else uri


def without_unasked(uri: str) -> str:
    """Return what `unasked` made URI of.

    >>> without_unasked(unasked("qemu+ssh://host/system?keyfile=key"))
    'qemu+ssh://host/system?keyfile=key'
    """
    for mark in "?&":
        uri = uri.removesuffix(mark + _UNASKED)
    return uri


def without_read_only(uri: str) -> tuple[str, bool]:
    """Return URI as libvirt knows it, and whether it asked for looking only.

    >>> without_read_only("qemu+ssh://host/system?keyfile=key&ro")
    ('qemu+ssh://host/system?keyfile=key', True)
    """
    before, mark, query = uri.partition("?")
    words = query.split("&") if mark else []
    kept = [word for word in words if word not in _READ_ONLY]
    return before + ("?" if kept else "") + "&".join(kept), len(kept) < len(words)


def _by_ssh(uri: str) -> bool:
    return urlsplit(uri).scheme.endswith("+ssh")
