"""The check of Ctrl-C: this module, run as a process of its own, infers until the signal comes."""

from __future__ import annotations

import faulthandler
import signal
import subprocess
import sys
import threading
from pathlib import Path

from hams_agents.backends.base import BackendType, ModelFile
from hams_agents.backends.contract.classes import load_class
from hams_agents.backends.network import noise
from hams_agents.devices import DeviceSpec

START_S = 60.0
END_S = 20.0
"""A process has to end so soon after Ctrl-C, s."""
KILLED_S = 60.0
"""How long the system may take to end a process that was killed, s."""
INTERRUPTED = 130
READY = "hams: ready"


def interrupted(where: str, spec: DeviceSpec, model: ModelFile) -> str:
    """Return what goes wrong when Ctrl-C ends a process that infers `model` on `spec`; empty: nothing."""
    shape = ",".join(map(str, model.input_shape))
    argv = [where, spec.backend, spec.target, spec.unit, str(model.path), model.digest, shape, model.dtype]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    late = threading.Timer(START_S, process.kill)
    late.start()
    try:
        printed = ""
        assert process.stdout is not None
        for line in process.stdout:  # a runtime may print, too
            if line.strip() == READY:
                break
            printed = line.strip() or printed
        else:
            return f"the process does not start: {printed}"[:300]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        return f"the process runs on {END_S:.0f} s after Ctrl-C{_where(process)}"
    finally:
        late.cancel()
        process.kill()
        process.wait(KILLED_S)
        if process.stdout is not None:
            process.stdout.close()
    code = process.returncode
    return "" if code == INTERRUPTED else f"it ends with {code}: the runtime took the signal, or crashed on closing"


def _where(process: subprocess.Popen[str]) -> str:
    """End a process that hangs; return the innermost line of Python that it is in."""
    process.send_signal(signal.SIGABRT)
    try:
        printed = process.communicate(timeout=5)[0] or ""
    except subprocess.TimeoutExpired:
        return ""
    lines = [line.strip() for line in printed.partition("Current thread")[2].splitlines() if "File" in line]
    return f", in {lines[0]}" if lines else ""


def _infer(where: str, backend: str, target: str, unit: str, path: str, digest: str, shape: str, dtype: str) -> int:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
    cls: type[BackendType] = load_class(where)
    device = cls.open(DeviceSpec(backend, target, unit), None)
    model = ModelFile("sample", digest, Path(path), tuple(map(int, shape.split(","))), dtype)
    network = device.load(model)
    images = noise(model, 1)
    try:
        print(READY, flush=True)
        while True:
            network.infer(images)
    except KeyboardInterrupt:
        network.close()
        device.close()
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(_infer(*sys.argv[1:]))
