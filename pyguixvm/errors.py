# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, and with which exit status it ends.

Library code raises one of these; only the command line turns them into text
and an exit status.  Anything else that escapes is a defect of ours.
"""

from __future__ import annotations

from typing import ClassVar, Self


class PyguixvmError(Exception):
    """The request failed and the old state stands.

    MESSAGE says what was given and what is wrong with it, HINT what to do
    about it, and LOCATION (``file:line:column``) where in the user's Scheme
    it stands, when it stands somewhere.
    """

    status: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, location: str | None = None
    ) -> None:
        """Keep the three parts apart: they are rendered late, as text or JSON."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location

    def adding(self, text: str) -> Self:
        """Return this error with a message that goes on with TEXT."""
        # Not by calling the class, which may take other arguments.
        longer = type(self).__new__(type(self))
        vars(longer).update(vars(self))
        longer.message = f"{self.message}; {text}"
        longer.args = (longer.message,)
        return longer


class RequestRefusedError(PyguixvmError):
    """The request makes sense but is refused in this state; nothing was changed."""


class NotLiveError(RequestRefusedError):
    """A guest that runs cannot be changed by its agent alone: it is as it was."""


class DefectError(PyguixvmError):
    """Nobody thought of this: a mistake in pyguixvm, or what one takes for another thing."""


def contained(error: Exception) -> PyguixvmError:
    """Return ERROR as what can be told of one machine, while the work at the others goes on."""
    if isinstance(error, PyguixvmError):
        return error
    place = ""
    if error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        code = last.tb_frame.f_code
        place = f" ({code.co_filename.rpartition('/')[2]}:{last.tb_lineno}, {code.co_name})"
    return DefectError(
        f"this is a defect of pyguixvm: {type(error).__name__}: {error}{place}",
        hint="Report it, with what was to be done; the other machines are not concerned.",
    )


class UsageError(PyguixvmError):
    """The command was called in a way that has no meaning."""

    status = 2


class EvaluationError(PyguixvmError):
    """The configuration cannot be evaluated, or declares what is not allowed.

    OTHERS are what else is wrong with it, in the order of their places.
    """

    status = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        location: str | None = None,
        others: tuple[EvaluationError, ...] = (),
    ) -> None:
        """Keep the other errors beside the first."""
        super().__init__(message, hint=hint, location=location)
        self.others = others


class UnknownMachineError(EvaluationError):
    """A machine was named that the configuration does not declare; its declarations are well."""

    status = 1


class BuildError(PyguixvmError):
    """Guix could not build what was declared.

    LOG is the file name of the build's log, and TAIL its last lines, where
    they are known.
    """

    status = 4

    def __init__(
        self,
        message: str,
        *,
        log: str | None = None,
        tail: tuple[str, ...] = (),
        hint: str | None = None,
    ) -> None:
        """Keep the log's place and end beside the message."""
        super().__init__(message, hint=hint)
        self.log = log
        self.tail = tail


class HalfDoneError(BuildError):
    """Guix had begun to change a guest when it failed: that may be anything in between."""


class InterruptedRequestError(PyguixvmError):
    """The person ended the command; the hint says what is left of it."""

    status = 130


class HypervisorError(PyguixvmError):
    """Libvirt refused, cannot be reached, or a transfer failed."""

    status = 5


class LostLockError(HypervisorError):
    """Somebody else may change the machine by now: it was left as it is, maybe half changed."""


class NotReadyError(PyguixvmError):
    """The machine was deployed but did not become ready in time.

    Status 7: nothing was rolled back, since there was nothing to roll back
    to.  CONSOLE holds the last lines that the guest wrote to its console.
    """

    status = 7

    def __init__(
        self, message: str, *, console: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        """Keep the console's end beside the message."""
        super().__init__(message, hint=hint)
        self.console = console


class RolledBackError(NotReadyError):
    """The new generation was not ready in time; the former one runs again."""

    status = 6


class TrialFailedError(NotReadyError):
    """A throwaway copy was not ready in time; the machine itself was left alone."""

    status = 1
