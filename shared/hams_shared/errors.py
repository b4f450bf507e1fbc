"""Every error a person or another process can see, as one tree.

    HamsError                    code            exit
    ├── BadInputError            bad-input       2     what the user gave is wrong
    │   ├── GroupSpecError       bad-group       2
    │   ├── DeviceSpecError      bad-device      2
    │   ├── TooLargeError        too-large       2     a message or value is larger than the broker takes
    │   ├── SourceError          bad-source      2     a video, folder or image cannot be read
    │   └── TaskError            bad-task        2     a node's task parameters are wrong
    ├── ModelError               bad-model       3     a network cannot be read, checked or run
    │   ├── ModelFetchError      model-fetch     3     its source does not give it
    │   │   └── NoSpaceError     no-space        3     the disk is too full for it
    │   ├── InferenceError       inference-failed 3    a device fails at a network that it ran before
    │   ├── NotFiniteError       not-finite      3     a network's outputs for a frame are NaN or infinite
    │   ├── FrameFailsError      frame-fails     3    an inference fails for this frame only
    │   ├── DigestError          bad-digest      3     its bytes are not the promised ones
    │   └── UnsupportedModelError unsupported    3     this device or runtime cannot run it
    ├── MessageError             bad-message     4     bytes on a subject are not a HAMS message
    ├── BrokerError              broker          5     the broker is away or refuses
    │   ├── NotFoundError        not-found       5     no such key, group or device
    │   │   └── NotKeptError     not-kept        5     the group keeps no results
    │   └── CredentialsError     credentials     5     the broker rejects the credentials, or requires some
    ├── DeadlineError            deadline        6     no answer in time
    │   └── NoResultError        no-result       6     no result within the caller's timeout; a TimeoutError, too
    ├── RefusedError             refused         7     the other side refused, with a reason
    │   ├── StaleEpochError      stale-epoch     7
    │   ├── NotLeaderError       not-leader      7     another scheduler leads: ask again
    │   ├── ConflictError        conflict        7     someone else has changed it meanwhile: look, and do it again
    │   ├── OverloadedError      overloaded      7     no room now: try again later, or bring less
    │   ├── UnauthenticatedError unauthenticated 7 a request without a valid token
    │   ├── ForbiddenError       forbidden       7     its token's role or groups do not allow it
    │   ├── FrameGoneError       frame-gone      7     its owner reused a frame's memory
    │   └── FrameUnreachableError frame-unreachable 7  shared memory that this process cannot map
    ├── InfeasibleError          infeasible      8     no placement can exist
    ├── HungError                hung            75    a device made no progress: its agent ends itself
    └── InternalError            internal        70    a defect in HAMS itself

On the wire an error is ``{"code", "text", "hint"}`` (see :meth:`HamsError.to_wire`); foreign exceptions are mapped
to this tree where they are caught, in the module that talks to the foreign library.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, NamedTuple

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exhausted quota."""


class HamsError(Exception):
    """Base of all HAMS errors: what is wrong (`text`) and what to do about it (`hint`)."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text

    def to_wire(self) -> dict[str, str]:
        """Return the error as the small map that travels in messages."""
        return {"code": self.code, "text": self.text, "hint": self.hint}


class BadInputError(HamsError):
    """The user's input is wrong."""

    code = "bad-input"
    exit_code = 2


class Finding(NamedTuple):
    """One thing that is wrong in a file that a person wrote."""

    line: int | None
    """From 1, as `column`; None: not known."""
    column: int | None
    path: str
    """Keys from the top of the file, by dots."""
    text: str


class GroupSpecError(BadInputError):
    """A group file does not describe a group. `findings`: the same one by one, where that is known."""

    code = "bad-group"

    def __init__(self, text: str, hint: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(text, hint)
        self.findings = findings


class DeviceSpecError(BadInputError):
    """A device name or profile cannot be understood, or this host has no such device."""

    code = "bad-device"


class TooLargeError(BadInputError):
    """A message or a stored value is larger than the broker takes: trying again is of no use."""

    code = "too-large"


class SourceError(BadInputError):
    """A source of frames (video, folder, image) cannot be opened or ended in the middle."""

    code = "bad-source"


class TaskError(BadInputError):
    """A node's task is unknown, has wrong parameters, or does not fit its network's outputs."""

    code = "bad-task"


class ModelError(HamsError):
    """A network cannot be read, checked or run."""

    code = "bad-model"
    exit_code = 3


class ModelFetchError(ModelError):
    """A model's source does not deliver it."""

    code = "model-fetch"


class NoSpaceError(ModelFetchError):
    """The disk of the cache is too full for a model."""

    code = "no-space"


class InferenceError(ModelError):
    """An inference failed on a device that has loaded the network; another device may well run it."""

    code = "inference-failed"


class NotFiniteError(ModelError):
    """A network's outputs for a frame are NaN or infinite; the same frame would give them again."""

    code = "not-finite"


class FrameFailsError(ModelError):
    """A frame fails on a device again that passes its self-test: the fault is the frame's."""

    code = "frame-fails"


class DigestError(ModelError):
    """A model's bytes are not the ones promised by its digest."""

    code = "bad-digest"


class UnsupportedModelError(ModelError):
    """This runtime or device cannot run the model; the pair stays empty in the FPS matrix."""

    code = "unsupported"


class MessageError(HamsError):
    """Bytes received are not a valid HAMS message."""

    code = "bad-message"
    exit_code = 4


class BrokerError(HamsError):
    """The broker cannot be reached, or refused an operation."""

    code = "broker"
    exit_code = 5


class NotFoundError(BrokerError):
    """No such key, object, group or device."""

    code = "not-found"


class NotKeptError(NotFoundError):
    """Stored results are wanted of a group that keeps none."""

    code = "not-kept"


class CredentialsError(BrokerError):
    """The broker rejects the credentials, they do not trust the broker, or a file holds no credentials."""

    code = "credentials"


class DeadlineError(HamsError):
    """No answer within the deadline."""

    code = "deadline"
    exit_code = 6


class NoResultError(DeadlineError, TimeoutError):
    """No result or output came within the timeout that the caller gave."""

    code = "no-result"


class RefusedError(HamsError):
    """The other side understood and refused; `text` holds its reason."""

    code = "refused"
    exit_code = 7


class StaleEpochError(RefusedError):
    """Work or a plan of an epoch that is no longer served."""

    code = "stale-epoch"


class NotLeaderError(RefusedError):
    """Another scheduler leads, or none does at the moment: ask again."""

    code = "not-leader"


class ConflictError(RefusedError):
    """Someone else has changed what a change was made from: look at it, and do it again."""

    code = "conflict"


class OverloadedError(RefusedError):
    """A bounded queue is full: try again later, or bring less."""

    code = "overloaded"


class UnauthenticatedError(RefusedError):
    """A request came without a token, or with one that is unknown or has expired."""

    code = "unauthenticated"


class ForbiddenError(RefusedError):
    """The token's role or groups, or the page that a browser shows, do not allow the request."""

    code = "forbidden"


class FrameGoneError(RefusedError):
    """A frame in shared memory was given up by its owner before it was read to the end."""

    code = "frame-gone"


class FrameUnreachableError(RefusedError):
    """A frame lies in shared memory that this process cannot map."""

    code = "frame-unreachable"


class InfeasibleError(HamsError):
    """No placement can exist: some node fits no device."""

    code = "infeasible"
    exit_code = 8


class HungError(HamsError):
    """An inference, a benchmark or a load does not end; only a new process helps. 75 is EX_TEMPFAIL: try again."""

    code = "hung"
    exit_code = 75


class InternalError(HamsError):
    """A defect in HAMS itself; the log holds the traceback."""

    code = "internal"
    exit_code = 70


def _tree(cls: type[HamsError]) -> dict[str, type[HamsError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


def from_wire(error: dict[str, Any]) -> HamsError:
    """Rebuild an error from its wire form; an unknown code becomes a plain :class:`HamsError`."""
    cls = _tree(HamsError).get(str(error.get("code", "")), HamsError)
    return cls(str(error.get("text", "unknown error")), str(error.get("hint", "")))


def as_hams_error(error: BaseException) -> HamsError:
    """Return `error` itself when it is ours, what a full disk or memory is called, else an :class:`InternalError`."""
    if isinstance(error, HamsError):
        return error
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return NoSpaceError(f"the disk is full: {error.filename or error.strerror}", "make room")
    if isinstance(error, MemoryError):
        return RefusedError("there is not enough memory for it", "make memory free, or raise the limit")
    return InternalError(f"{type(error).__name__}: {error}", "this is a defect in HAMS: please report it")
