"""Backends that break one rule of the contract each, made of the example in examples/backend, which keeps them all."""

from __future__ import annotations

import importlib.util
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends.base import Capabilities, ModelFile
from hams_agents.devices import DeviceSpec
from hams_shared.errors import ModelError, UnsupportedModelError

EXAMPLE = Path(__file__).parents[2] / "examples" / "backend"
CPU = DeviceSpec("reference", "CPU", "cpu")


def example() -> Any:
    """The class of the example."""
    if "hams_reference" not in sys.modules:
        spec = importlib.util.spec_from_file_location("hams_reference", EXAMPLE / "hams_reference.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["hams_reference"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["hams_reference"])
    return sys.modules["hams_reference"].Reference


class Changed:
    """A network that does all as `network`, which a subclass changes."""

    def __init__(self, network: Any, model: ModelFile) -> None:
        self.network = network
        self.model = model

    def __getattr__(self, key: str) -> Any:
        return getattr(self.network, key)

    def infer(self, batch: Any, **options: Any) -> Any:
        return self.network.infer(batch, **options)

    def close(self) -> None:
        self.network.close()


class Broken(example()):  # type: ignore[misc]
    """A backend whose networks are `kind`."""

    kind: type[Changed] = Changed

    @classmethod
    def open(cls, spec: DeviceSpec, cache: Path | None = None) -> Any:
        return cls(spec)

    def load(self, model: ModelFile) -> Any:
        return self.kind(super().load(model), model)


def broken(kind: type[Changed]) -> type[Broken]:
    return type(f"Of{kind.__name__}", (Broken,), {"kind": kind})


class WrongNumbers(Changed):
    def infer(self, batch: Any, **options: Any) -> Any:
        return {name: value + 1 for name, value in self.network.infer(batch).items()}


class NoNames(Changed):
    def infer(self, batch: Any, **options: Any) -> Any:
        return list(self.network.infer(batch).values())


class BatchOfOne(Changed):
    """Answers a batch with the outputs of its first image."""

    def infer(self, batch: Any, **options: Any) -> Any:
        return self.network.infer(batch[:1])


class MixedBatch(Changed):
    """The images of a batch get each other's outputs."""

    def infer(self, batch: Any, **options: Any) -> Any:
        return {name: value[::-1] for name, value in self.network.infer(batch).items()}


class OneBuffer(Changed):
    """Writes each inference's outputs into the same arrays."""

    def __init__(self, network: Any, model: ModelFile) -> None:
        super().__init__(network, model)
        self.kept: dict[str, Any] = {}

    def infer(self, batch: Any, **options: Any) -> Any:
        for name, value in self.network.infer(batch).items():
            if name in self.kept and self.kept[name].shape == value.shape:
                self.kept[name][:] = value
            else:
                self.kept[name] = value
        return self.kept


class AnyShape(Changed):
    def infer(self, batch: Any, **options: Any) -> Any:
        height, width = self.model.input_shape[2:]
        return self.network.infer(batch[:, :, :height, :width])


class OpenAfterClose(Changed):
    def close(self) -> None:
        pass


class ClosedOnce(Changed):
    def __init__(self, network: Any, model: ModelFile) -> None:
        super().__init__(network, model)
        self.closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True
        self.network.close()


class KeepsWhatItSaw(Changed):
    """Takes 1 MiB per inference."""

    def infer(self, batch: Any, **options: Any) -> Any:
        self.__dict__.setdefault("kept", []).append(np.ones(1 << 17))
        return self.network.infer(batch)


class KeepsItsLoads(Broken):
    """Takes 8 MiB per load, and keeps it."""

    kept: list[Any] = []  # noqa: RUF012

    def load(self, model: ModelFile) -> Any:
        self.kept.append(np.ones(1 << 20))
        return super().load(model)


class RawErrors(Broken):
    """Lets the runtime's own errors out."""

    def load(self, model: ModelFile) -> Any:
        try:
            return super().load(model)
        except ModelError as error:
            raise RuntimeError(error.text) from error


class AllIsBroken(Broken):
    """Calls a sound file broken that it does not support."""

    def load(self, model: ModelFile) -> Any:
        try:
            return super().load(model)
        except UnsupportedModelError as error:
            raise ModelError(error.text) from error


class AnyTarget(Broken):
    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        return target, "cpu"


class OtherTarget(Broken):
    """What it parses to, it cannot parse."""

    @staticmethod
    def parse(target: str) -> tuple[str, str]:
        return target + "!", "cpu"


class NotOneAtATime(Broken):
    """States two lanes, and mixes up what two threads ask."""

    class Mixed(Changed):
        def __init__(self, network: Any, model: ModelFile) -> None:
            super().__init__(network, model)
            self.both = threading.Barrier(2)
            self.met = False

        def infer(self, batch: Any, **options: Any) -> Any:
            self.last = self.network.infer(batch)
            if options.get("alone") is False and not self.met:  # once: the thread that sees the mix-up ends
                self.both.wait(30)  # the other thread has written, too
                self.met = True
            return self.last

    kind = Mixed

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        self.capabilities = replace(self.capabilities, lanes=2)


class WrongCapabilities(Broken):
    def __init__(self, spec: DeviceSpec) -> None:
        self.capabilities = Capabilities("reference", "cpu", "toaster", "a", (), 100, ("fp32",), "r 1")


class IgnoresCtrlC(Broken):
    def __init__(self, spec: DeviceSpec) -> None:
        import signal

        super().__init__(spec)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
