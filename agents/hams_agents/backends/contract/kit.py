"""Runs the checks on a backend: opens its device, and reports each check in plain words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from hams_agents import backend_types
from hams_agents.backends.base import BackendType
from hams_agents.backends.contract import samples
from hams_agents.backends.contract.checks import CHECKS, FailedError, SkippedError, Subject
from hams_agents.backends.contract.classes import load_class
from hams_agents.backends.contract.samples import Sample
from hams_agents.backends.guard import checked_capabilities
from hams_agents.devices import DeviceSpec
from hams_agents.faults import FAULTS, fault
from hams_shared.errors import BadInputError, DeviceSpecError, HamsError

FIRST = "The device opens, and states what it is."
LOADS_FIRST = "Importing the package starts no threads: its runtime counts the cores, and the process is pinned later."


@dataclass(frozen=True)
class Result:
    """How a check ended."""

    check: str
    ok: bool | None
    """None: not checked."""
    why: str = ""


def run(where: str, device: str | None, folder: Path, sample: Sample | None = None) -> Iterator[Result]:
    """Yield the result of each check of the backend ``module:Class``, in files of `folder`.

    `device` is the name or target of its device; None: the first that it finds. Without a `sample` it is given ONNX,
    or the network that the method ``sample(folder)`` of its class returns.

    Raises:
        BadInputError: there is nothing to check: no such class, or no device.
    """
    before = _threads()
    cls = load_class(where)
    started = _threads() - before
    yield Result(LOADS_FIRST, started <= 0, f"it starts {started}" if started > 0 else "")
    missing = backend_types.missing(cls)
    if missing:
        raise BadInputError(f"{where} has no {', no '.join(missing)}", "see docs/backends.md")
    spec = _spec(cls, where, device)
    first, subject = _opened(cls, where, spec, folder, sample)
    yield first
    if subject is not None:
        for check in CHECKS:
            yield _result(check, subject)


def _opened(
    cls: type[BackendType], where: str, spec: DeviceSpec, folder: Path, sample: Sample | None
) -> tuple[Result, Subject | None]:
    try:
        opened = cls.open(spec, folder)
        able = checked_capabilities(opened, spec.backend or opened.capabilities.backend)
        own = getattr(cls, "sample", None)
        sample = sample or (Sample(own(folder)) if callable(own) else samples.scaled(folder))
    except FAULTS as error:
        text = str(error) if isinstance(error, HamsError) else fault(error, cls.__module__.partition(".")[0])
        return Result(FIRST, False, text), None
    about = f"{able.name}, {able.kind}, {able.lanes} lanes, {able.precisions[0]}, {able.runtime}"
    return Result(FIRST, True, about), Subject(cls, where, spec, opened, sample, folder)


def _result(check: Callable[[Subject], None], subject: Subject) -> Result:
    text = " ".join((check.__doc__ or check.__name__).split())
    try:
        check(subject)
    except SkippedError as skip:
        return Result(text, None, str(skip))
    except FailedError as failed:
        return Result(text, False, str(failed))
    except HamsError as error:
        return Result(text, False, f"{type(error).__name__}: {error}")
    except FAULTS as error:
        return Result(text, False, fault(error, subject.type.__module__.partition(".")[0]))
    return Result(text, True)


def _spec(cls: type[BackendType], where: str, device: str | None) -> DeviceSpec:
    offered = (*backend_types.BUILT_IN, *entry_points(group=backend_types.ENTRY_POINTS))
    name = next((point.name.lower() for point in offered if point.value == where), "")
    try:
        found = [device] if device is not None else list(cls.targets())
        if not found:
            raise BadInputError(f"{where} finds no device on this host", "name one: --device")
        target, unit = _parsed(cls, str(found[0]))
    except DeviceSpecError as error:
        raise BadInputError(error.text, error.hint) from None
    except ImportError as error:
        raise BadInputError(f"the runtime of {where} cannot be imported: {error}", "install it") from error
    return DeviceSpec(name, target, unit)


def _parsed(cls: type[BackendType], device: str) -> tuple[str, str]:
    """Parse a target, or the name of a device: some targets hold a colon, too."""
    try:
        return cls.parse(device)
    except DeviceSpecError:
        if ":" not in device:
            raise
        return cls.parse(device.partition(":")[2])


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
