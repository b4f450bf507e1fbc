"""Watches the inferences of a device for failures, tests networks that fail, and reports what is to be taken out.

The decisions are in :mod:`hams_agents.runtime.failures`. Called in the threads that compute, which also run the tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from dataclasses import replace as replaced

from hams_agents.backends.further import examples
from hams_agents.backends.network import noise
from hams_agents.runtime.failures import Failures, Fault, Key, Verdict
from hams_agents.runtime.finite import refuse_not_finite
from hams_agents.runtime.progress import LOAD_S, Progress, first_limit_s
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece
from hams_shared.errors import FrameFailsError, HamsError, InferenceError, NotFiniteError, as_hams_error
from hams_shared.runtime.clock import Clock
from hams_shared.wire.frames import Output

PROBES = 5
"""Inferences of a self-test: one that fails is enough."""
OTHERS = 3
"""At most so many other networks are tested with one that failed."""


def self_test(served: ServedNode, progress: Progress, probes: int = PROBES, lanes: int = 1) -> str:
    """Run what the network ran when it was loaded; return why it fails, empty: it passes.

    It runs on one of the device's `lanes`, a part of it, and takes longer there.
    Outputs that are not finite count where they were finite then.
    """
    model = served.model
    if model is None:
        return ""
    try:
        limit_s = LOAD_S if served.slow else first_limit_s(lanes)
        for _ in range(1 if served.slow else probes):
            with progress.job(f"self-test of {served.key[0]}/{served.node}", limit_s):
                outputs = served.network.infer(noise(model, 1), further=examples(model, 1), alone=False)
            if served.sound:
                refuse_not_finite(served.node, served.device, served.checked, outputs)
    except Exception as error:
        return as_hams_error(error).text
    return ""


@dataclass
class FailureWatch:
    """The failures of one device."""

    nodes: Callable[[], Iterable[ServedNode]]
    """All that are loaded."""
    network_out: Callable[[ServedNode, HamsError], None]
    """Called when a network is at fault, once per node and epoch."""
    device_out: Callable[[str], None]
    """Called, once, when the device is at fault, with the reason; need not return."""
    clock: Clock
    lanes: int = 1
    """Of the device."""
    _failures: Failures = field(default_factory=Failures)
    _out: set[Key] = field(default_factory=set)
    """Nodes that were reported; bounded by what is served."""
    _not_finite: dict[Key, tuple[ServedNode, str]] = field(default_factory=dict)
    """Nodes that are to be tested, since their outputs are not finite; bounded by what is served."""
    _ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inferred(self, batch: Batch, progress: Progress, *, beside: bool = False) -> None:
        """Take a batch that was inferred, in the thread that did it: a lane, or the one beside them.

        Errors that are the frames' fault are replaced.
        """
        served = batch.pieces[0].served
        failed = [piece for piece in batch.pieces if isinstance(batch.error or piece.error, InferenceError)]
        with self._lock:
            waiting = self._not_finite.popitem()[1] if self._not_finite and not beside else None
            if not failed and batch.outputs is not None:
                self._failures.succeeded(_key(served))
        if waiting is not None:
            self._judge(*waiting, progress, beside=False)
        if failed:
            self._failed(batch, failed, progress, beside=beside)

    def _failed(self, batch: Batch, failed: list[Piece], progress: Progress, *, beside: bool) -> None:
        served, now = failed[0].served, self.clock.now()
        errors = {id(piece): batch.error or piece.error for piece in failed}
        text = next(error.text for error in errors.values() if error is not None)
        with self._lock:
            verdicts = [self._failures.failed(_key(served), _frame(piece), text, now) for piece in failed]
        passed = Verdict.TEST in verdicts and self._judge(served, text, progress, beside=beside)
        if Verdict.TEST in verdicts and not passed:
            return
        again = {id(p) for p, verdict in zip(failed, verdicts, strict=True) if verdict is Verdict.FRAME or passed}
        again -= {id(p) for p in failed if not p.work.id.attempt}
        _blame_frames(batch, again, text)

    def finished(self, served: ServedNode, outputs: Iterable[Output]) -> int:
        """Take what the pieces of a batch gave; return how many of them failed since outputs are not finite."""
        wrong = [one for one in outputs if one.error is not None and one.error.get("code") == NotFiniteError.code]
        now = self.clock.now()
        with self._lock:
            for one in wrong:
                frame, text = (one.id.stream, one.id.frame), str((one.error or {}).get("text", ""))
                if self._failures.failed(_key(served), frame, text, now) is Verdict.TEST:
                    self._not_finite[_key(served)] = served, text
        return len(wrong)

    def forget(self, group: str) -> None:
        """Drop the accounts of a group that is no longer served here."""
        with self._lock:
            self._failures.forget(group)
            self._out = {key for key in self._out if key[0] != group}
            self._not_finite = {key: one for key, one in self._not_finite.items() if key[0] != group}

    def _judge(self, served: ServedNode, text: str, progress: Progress, *, beside: bool) -> bool:
        """Test a node's network; return whether it passes. Report what is at fault."""
        with self._lock:
            if _key(served) in self._out or self._ended:
                return False
        why = self_test(served, progress, lanes=self.lanes)
        now = self.clock.now()
        with self._lock:
            if not why:
                self._failures.passed(_key(served), now)
                return True
            if _key(served) in self._out:
                return False
            count = self._failures.errors(_key(served))
            fault = self._failures.proven(_key(served), served.digest, now)
            self._out.add(_key(served))
        last = text.removeprefix(f"node {served.node} failed on {served.device}: ")
        about = f"node {served.node} of group {served.key[0]} failed {count} times on {served.device}; last: {last}"
        also = "" if beside or fault is Fault.DEVICE else self._another(served, progress)
        if fault is Fault.NETWORK and not also:
            self.network_out(served, InferenceError(about))
            return False
        with self._lock:
            ended, self._ended = self._ended, True
        if not ended:  # another lane may have found the same
            self.device_out(f"{about}{f'; {also}' if also else ''}")
        return False

    def _another(self, served: ServedNode, progress: Progress) -> str:
        """Test other networks of the device; return why one fails, empty: none does."""
        others = {one.digest: one for one in self.nodes() if one.digest != served.digest and not one.slow}
        for other in [*others.values()][:OTHERS]:
            why = self_test(other, progress, lanes=self.lanes)
            if why:
                return f"node {other.node} of group {other.key[0]} fails its self-test, too: {why}"
        return ""


def _key(served: ServedNode) -> Key:
    return (*served.key, served.plan.epoch)


def _frame(piece: Piece) -> tuple[str, int]:
    return (piece.work.id.stream, piece.work.id.frame)


def _blame_frames(batch: Batch, pieces: set[int], text: str) -> None:
    """Give `pieces`, by id, an error after which their frames are not sent again."""
    if not pieces:
        return
    error = FrameFailsError(f"{text}; the network passes its self-test, so the fault is the frame's")
    whole, batch.error = batch.error, None
    if whole is not None and len(pieces) == len(batch.pieces):
        batch.error = error
        return
    batch.pieces = [replaced(one, error=error if id(one) in pieces else one.error or whole) for one in batch.pieces]
