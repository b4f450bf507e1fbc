"""Trace contexts as W3C has them (Trace Context, level 1), and which frames are traced. Pure.

A ``traceparent`` travels with the messages of frames that are traced, and with no others. Ids are hashes of what they
name: the same frame has the same ids wherever they are made, and a test knows them beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from hams_shared.errors import BadInputError

VARIABLE = "HAMS_TRACE"
SAMPLER, ARGUMENT, DISABLED = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED"
RATIO = 0.01
"""Of the frames: how many are traced once tracing is on, unless more or fewer are asked for."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LOW = (1 << 64) - 1


class Context(NamedTuple):
    """Where a span belongs: its trace, and itself."""

    trace: str
    """32 hexadecimal digits."""
    span: str
    """16 of them."""
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """As it travels."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def parse(traceparent: object) -> Context | None:
    """Return the context that a received `traceparent` names; None for anything else, which is to be ignored."""
    found = _FORM.fullmatch(traceparent) if isinstance(traceparent, str) and len(traceparent) == 55 else None
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    if version == "ff" or not trace.strip("0") or not span.strip("0"):
        return None
    return Context(trace, span, bool(int(flags, 16) & 1))


def own(traceparent: str) -> str:
    """Return a received `traceparent` if it is one, else an empty text. Sampled or not, its frame is traced."""
    return traceparent if traceparent and parse(traceparent) is not None else ""


def frame_context(group: str, stream: str, frame: int, captured: float, parent: Context | None = None) -> Context:
    """Return the context of a frame's own span: in its parent's trace, else in one of its own."""
    name = f"{group}/{stream}/{frame}/{captured!r}"
    trace = blake2b(name.encode(), digest_size=16).hexdigest() if parent is None else parent.trace
    return Context(trace, span_id(name, trace))


def span_id(name: str, trace: str) -> str:
    """Return the id of the span of a trace that `name` names."""
    return blake2b(name.encode(), digest_size=8, key=bytes.fromhex(trace)).hexdigest()


@dataclass(frozen=True)
class Sampling:
    """Which frames are traced."""

    ratio: float
    """0–1 of the frames that come without a context."""
    follows: bool = True
    """A frame that comes with a context is traced exactly if that is sampled."""

    @property
    def any(self) -> bool:
        """Whether a frame may be traced at all."""
        return self.ratio > 0 or self.follows

    def takes(self, trace: str, parent: Context | None = None) -> bool:
        """Whether the frame is traced, as OpenTelemetry's TraceIdRatioBased decides, by the id of its trace."""
        if parent is not None and self.follows:
            return parent.sampled
        return int(trace, 16) & _LOW < round(self.ratio * (1 << 64))


def sampling_of(environ: Mapping[str, str]) -> Sampling | None:
    """Return the sampling that is asked for; None: tracing is off, as it is unless HAMS_TRACE turns it on.

    ``HAMS_TRACE`` is ``on``, ``off`` or a ratio. OpenTelemetry's own variables say the ratio where it is ``on``.

    Raises:
        BadInputError: a variable has a value that is not understood.
    """
    text = environ.get(VARIABLE, "").strip().lower()
    if text in ("", "off", "no", "false", "0") or environ.get(DISABLED, "").strip().lower() == "true":
        return None
    sampler = environ.get(SAMPLER, "").strip().lower()
    follows = sampler == "" or sampler.startswith("parentbased_")
    kind = sampler.removeprefix("parentbased_") or "traceidratio"
    if kind not in ("always_on", "always_off", "traceidratio"):
        raise BadInputError(
            f"{SAMPLER} is {sampler!r}, which is not known",
            "use traceidratio, always_on or always_off, or one of these after parentbased_",
        )
    if text not in ("on", "yes", "true"):
        ratio = _ratio(VARIABLE, text, ", on or off")
    elif kind == "traceidratio":
        ratio = _ratio(ARGUMENT, environ.get(ARGUMENT, "").strip() or f"{RATIO}", "")
    else:
        ratio = float(kind == "always_on")
    return Sampling(ratio, follows)


def _ratio(variable: str, text: str, also: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise BadInputError(
            f"{variable} is {text!r}: it is the part of the frames that is traced, 0 to 1{also}",
            "0.01 traces one frame in a hundred",
        )
    return ratio
