# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a hypervisor cannot be connected to: a sentence each, and the command that helps; pure.

Libvirt passes on what ssh, the shell there, GnuTLS and others say, as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.errors import explain

# Parameters that libvirt has for its other ways by ssh, and takes no notice of with +ssh.
_ONLY_LIBSSH = ("known_hosts", "known_hosts_verify", "sshauth")


@dataclass(frozen=True)
class _Way:
    """The way that a URI describes: as USER to HOST, by TRANSPORT, with PARAMETERS."""

    transport: str
    user: str | None
    host: str
    port: int | None
    parameters: dict[str, list[str]]

    @property
    def ssh(self) -> str:
        """The ssh command that goes the same way."""
        port = f"-p {self.port} " if self.port else ""
        user = f"{self.user}@" if self.user else ""
        return f"ssh {port}{user}{self.host}"

    @property
    def known_as(self) -> str:
        """What known_hosts calls the host."""
        return f"[{self.host}]:{self.port}" if self.port else self.host

    @property
    def elsewhere(self) -> bool:
        """Whether it names another host, or one to go to by ssh."""
        return bool(self.host)


@dataclass(frozen=True)
class _Trouble:
    """What is wrong if libvirt's error matches SIGN: SAYS it of a way, HINT is what to do."""

    sign: re.Pattern[str]
    says: Callable[[_Way], str]
    hint: Callable[[_Way], str]


def _trouble(sign: str, says: Callable[[_Way], str], hint: Callable[[_Way], str]) -> _Trouble:
    return _Trouble(re.compile(sign), says, hint)


def _unknown_key(way: _Way) -> str:
    if way.transport == "ssh" and any(each in way.parameters for each in _ONLY_LIBSSH):
        named = next(each for each in _ONLY_LIBSSH if each in way.parameters)
        return (
            f"libvirt takes no notice of '{named}' with +ssh: have your ssh configuration say "
            "UserKnownHostsFile, or use +libssh"
        )
    scan = f"ssh-keyscan {f'-p {way.port} ' if way.port else ''}{way.host}"
    return (
        f"compare what '{scan} | ssh-keygen -lf -' shows with the host's own key, then accept it "
        f"once: '{way.ssh} true'"
    )


_PORTS: Mapping[str, int] = {
    "ssh": 22,
    "libssh": 22,
    "libssh2": 22,
    "tls": 16514,
    "": 16514,
    "tcp": 16509,
}

# The first that matches says it: what is special goes before what is general.
_TROUBLES = (
    _trouble(
        "REMOTE HOST IDENTIFICATION HAS CHANGED|SSH HOST KEY VERIFICATION FAILED",
        lambda way: f"the ssh host key of {way.host} is another one than it was",
        lambda way: (
            "find out why; if the host was installed anew, forget the old one: "
            f"'ssh-keygen -R \"{way.known_as}\"'"
        ),
    ),
    _trouble(
        "Host key verification failed|verify the session host key",
        lambda way: f"the ssh host key of {way.host} is not known here",
        _unknown_key,
    ),
    _trouble(
        r"Permission denied \((publickey|password|keyboard|gssapi|hostbased)"
        "|authentication failed: no authentication methods|Access denied",
        lambda way: f"{way.host} does not let {way.user or 'you'} log in by ssh",
        lambda way: (
            f"see what '{way.ssh} true' says; 'ssh-copy-id' brings your key there, and "
            "'?keyfile=FILE' in the URI names another one"
        ),
    ),
    _trouble(
        "Could not resolve hostname|unable to resolve|Name or service not known",
        lambda way: f"nobody knows a host {way.host}",
        lambda way: f"see whether '{way.ssh} true' works; aliases stand in ~/.ssh/config",
    ),
    _trouble(
        "virt-ssh-helper: (command )?not found",
        lambda way: f"there is no virt-ssh-helper on {way.host}",
        lambda _way: "install libvirt's daemon there (6.8 or newer has it), or leave "
        "'proxy=native' out of the URI",
    ),
    _trouble(
        r"\bnc: (command )?not found",
        lambda way: (
            f"on {way.host} there is neither virt-ssh-helper nor netcat, which libvirt is "
            "reached by through ssh"
        ),
        lambda _way: "install libvirt's daemon there (6.8 or newer), or OpenBSD's netcat; "
        "'proxy=' and 'socket=' in the URI take netcat",
    ),
    _trouble(
        "bytes received from server too large",
        lambda way: f"what answers on {way.host} is not libvirt, but writes a text",
        lambda way: (
            f"'{way.ssh} true' must write nothing: does the user have a shell, and is what it "
            "runs at its start silent?"
        ),
    ),
    _trouble(
        "(Cannot read|Unable to read|Unable to set x509|Unable to load).*(certificate|key|CA)"
        r"|certificate .*'.*\.pem'",
        lambda way: f"a certificate for TLS to {way.host} is missing here",
        lambda _way: "put cacert.pem, clientcert.pem and clientkey.pem where "
        "https://libvirt.org/kbase/tlscerts.html says, or name their directory: '?pkipath=…'",
    ),
    _trouble(
        "[Cc]ertificate.*(issuer|not trusted|failed validation|not match|expired|revoked)"
        "|TLS handshake|server certificate|verify peer's certificate",
        lambda way: f"the TLS certificate of {way.host} is not accepted",
        lambda way: (
            f"the host is to be called {way.host} in it, and signed by your cacert.pem: "
            f"'virt-pki-validate' there, 'openssl s_client -connect {way.host}:"
            f"{way.port or 16514}' here"
        ),
    ),
    _trouble(
        "Failed to connect socket to '[^']*': Permission denied",
        lambda way: f"{way.user or 'the user'} may not use libvirt on {way.host}",
        lambda way: (
            f"add {way.user or 'the user'} to the group 'libvirt' there, or log in as another one: "
            f"'qemu+{way.transport}://root@{way.host}/system'"
        ),
    ),
    _trouble(
        "Failed to connect socket to '[^']*': (No such file|Connection refused)",
        lambda way: f"libvirtd does not run on {way.host}",
        lambda way: (
            f"start it there: '{way.ssh} herd start libvirtd' on Guix System, "
            f"'{way.ssh} systemctl start libvirtd' elsewhere"
        ),
    ),
    _trouble(
        "Connection refused|No route to host|timed out|Network is unreachable",
        lambda way: f"{way.host} does not answer at port {way.port or _PORTS.get(way.transport)}",
        lambda way: (
            f"see whether it is up, and whether '{way.ssh} true' works"
            if "ssh" in way.transport
            else "see whether it is up, and whether libvirtd listens there"
        ),
    ),
)  # fmt: skip


def unreachable(error: libvirt.libvirtError, uri: str | None, doing: str) -> HypervisorError:
    """Return ERROR, which came up when connecting to URI, as one of ours; DOING is that."""
    way = _way(uri or "")
    reason = (error.get_error_message() or str(error)).strip()
    if way is not None and way.elsewhere:
        for trouble in _TROUBLES:
            if trouble.sign.search(reason):
                return HypervisorError(
                    f"cannot {doing}: {trouble.says(way)} ({_last_line(reason)})",
                    hint=trouble.hint(way),
                )
    return explain(error, doing)


def _way(uri: str) -> _Way | None:
    """Return what URI says, or None: it is an alias, or nothing that can be read."""
    try:
        parts = urlsplit(uri)
        _, _, transport = parts.scheme.partition("+")
        return _Way(transport, parts.username, parts.hostname or "", parts.port,
                    parse_qs(parts.query))  # fmt: skip
    except ValueError:
        return None


def _last_line(reason: str) -> str:
    return reason.splitlines()[-1].strip()
