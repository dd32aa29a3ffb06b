# SPDX-License-Identifier: GPL-3.0-or-later
"""The right to change machines, each held by one at a time wherever they are.

A holder lives as long as it beats.  One that was stopped for longer than others have
patience finds its lock gone, and cannot get it back by going on: its token is another.
Nothing in libvirt can be made to depend on a token; so it is looked at before each step
without return, and a lock that was looked at is not taken over in the next moment.

Versions before this one locked by volumes.  They and this one do not see each other's
locks: both at once on one hypervisor are not supported.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import libvirt

from pyguixvm.errors import HypervisorError, LostLockError, PyguixvmError
from pyguixvm.events import Emit
from pyguixvm.hypervisor.connection import Connection, anew
from pyguixvm.hypervisor.errors import explain, explained
from pyguixvm.hypervisor.machine_lock import secret
from pyguixvm.hypervisor.machine_lock.beats import Beats
from pyguixvm.hypervisor.machine_lock.holder import Holder, has_died, myself
from pyguixvm.hypervisor.machine_lock.wait import Tempo, wait_for

_DEFAULT_TEMPO = Tempo()


@contextmanager
def held(  # noqa: PLR0917 -- what is locked where, who is told, and how long things take
    connection: Connection,
    machines: Iterable[str],
    emit: Emit,
    verb: str,
    tempo: Tempo = _DEFAULT_TEMPO,
    sleep: Callable[[float], None] = time.sleep,
    beats: Beats | None = None,
) -> Iterator[Lock]:
    """Hold the locks of all MACHINES, for VERB, while the body runs.

    Waits, and says for whom, as long as another holds one.  They are taken in the order
    of their names, so that no two wait for each other.  BEATS, from `beating`, are shared by
    those who hold locks side by side.  Raises HypervisorError.
    """
    lock = Lock(connection, tempo, beats)
    try:
        for machine in sorted(set(machines)):
            lock.take(machine, myself(verb), emit, sleep)
        yield lock
    finally:
        lock.release()


@contextmanager
def beating(connection: Connection, tempo: Tempo = _DEFAULT_TEMPO) -> Iterator[Beats]:
    """Yield signs of life for all locks on the hypervisor of CONNECTION that the body holds."""
    beats = Beats(connection, tempo.beat)
    try:
        yield beats
    finally:
        beats.stop()


def holder(connection: Connection, machine: str) -> Holder | None:
    """Return who holds the lock of MACHINE; None if nobody does, or is known to have died.

    A holder elsewhere may have died all the same.  Raises HypervisorError.
    """
    with explained(f"see who changes '{machine}'"), _none_if_unsupported():
        return _living(secret.find(connection, machine))
    return None


def holders(
    connection: Connection, secrets: Iterable[libvirt.virSecret] | None = None
) -> Mapping[str, Holder]:
    """Return as `holder` who holds locks, by machine: one request, and one for each lock.

    SECRETS are all that there are, if they were listed already.
    """
    with explained("see who changes machines"):
        there = secret.all_secrets(connection) if secrets is None else secrets
        found = secret.find_all(there).items()
        living = {machine: _living(each) for machine, each in found}
        return {machine: each for machine, each in living.items() if each is not None}


class Lock:
    """The locks that one process holds of machines on the hypervisor of CONNECTION."""

    def __init__(self, connection: Connection, tempo: Tempo, beats: Beats | None = None) -> None:
        """Hold nothing yet; BEATS are others' as well, if given."""
        self._connection = connection
        self._tempo = tempo
        self._shares = beats is not None
        self._beats = beats or Beats(connection, tempo.beat)
        # None where there is nobody to lock out.
        self._tokens: dict[str, str | None] = {}
        self._secrets: dict[str, libvirt.virSecret] = {}

    def require(self, machine: str) -> None:
        """Make sure that MACHINE is ours to change; to be called before each step without return.

        Raises LostLockError if it is not, HypervisorError if that cannot be known.
        """
        with explained(f"see whether '{machine}' is still ours to change"):
            if self._is_held(machine):
                return
        other = holder(self._connection, machine)
        raise LostLockError(
            f"'{machine}' was left as it is, since its lock was lost: nothing was heard of this "
            f"process for {self._tempo.patience:.0f} s, or somebody removed it; "
            + (f"it is being changed by {other}" if other else "nobody changes it now"),
            hint="See what there is with 'pyguixvm status', and run the command again.",
        )

    def take(self, machine: str, me: Holder, emit: Emit, sleep: Callable[[float], None]) -> None:
        """Take the lock of MACHINE as ME; as long as another has it, wait, and EMIT for whom.

        Raises HypervisorError.
        """
        token = str(uuid.uuid4())
        # Noted before it is there: whatever interrupts this, it is released.
        self._tokens[machine] = token
        try:
            taken = wait_for(self._connection, machine, token, me, self._tempo, emit, sleep)
        except libvirt.libvirtError as error:
            if not (self._is_alone() and secret.is_unsupported(error)):
                raise _refused(error, machine) from error
            self._tokens[machine] = None
        else:
            self._secrets[token] = taken
            self._beats.add(token)

    def release(self) -> None:
        """Let go of what is still ours."""
        if not self._shares:
            self._beats.stop()
        for token in filter(None, self._tokens.values()):
            self._beats.forget(token)
        try:
            self._remove(self._connection, self._secrets)
        except (libvirt.libvirtError, HypervisorError):
            # The work's connection was lost; libvirtd may be there again.
            with (
                suppress(PyguixvmError, libvirt.libvirtError),
                anew(self._connection, once=True) as another,
            ):
                self._remove(another, {})

    def _is_held(self, machine: str) -> bool:
        token = self._tokens.get(machine, "")
        if not token:
            return token is None
        if self._beats.age(token) > self._tempo.patience / 2:
            # Whoever waits may be about to take it: a beat holds it, a look would not.
            return self._beats.beat(self._connection, token)
        return secret.is_there(self._connection, token)

    def _is_alone(self) -> bool:
        """Whether this is libvirt's driver for tests, of which each process has its own."""
        return bool(self._connection.handle.getType() == "TEST")

    def _remove(self, connection: Connection, known: Mapping[str, libvirt.virSecret]) -> None:
        for token in filter(None, self._tokens.values()):
            secret.remove(connection, token, known.get(token))


def _living(found: secret.Found | None) -> Holder | None:
    if found is None or found.holder is None or has_died(found.holder):
        return None
    return found.holder


@contextmanager
def _none_if_unsupported() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if not secret.is_unsupported(error):
            raise


def _refused(error: libvirt.libvirtError, machine: str) -> HypervisorError:
    refused = explain(error, f"take the lock of '{machine}'")
    if secret.is_unsupported(error):
        refused.hint = (
            "machines are locked by secrets of libvirt's: install its driver for secrets there, "
            "and start it (virtsecretd, where libvirtd has none)"
        )
    return refused
