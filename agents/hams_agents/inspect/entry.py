"""What is asked of a network file, one request each; callers run them in a child process, since files are foreign."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends.base import ModelFile
from hams_agents.backends.further import examples, tensor_specs
from hams_agents.backends.network import noise
from hams_agents.backends.openvino import FORMATS
from hams_agents.backends.registry import open_backend
from hams_agents.devices import allowed_cores, parse, pin
from hams_agents.inspect import guess, openvino_file
from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.fitting import Fit, Seen, fitting
from hams_agents.tasks.registry import task_class
from hams_shared.errors import DeviceSpecError, ModelError
from hams_shared.wire.messages.group import FurtherInput

MOST_FITS = 8
MOST_CORES = 4
"""Of a large host; each thread of a runtime takes address space, which is limited."""


def read(path: str) -> dict[str, Any]:
    """Return :class:`hams_agents.inspect.facts.Facts` of the file as plain values.

    With ``"image"``, the name of the input for the image, and ``"input"``, that of a node to try it with; both None: it
    takes no image.

    Raises:
        ModelError: no such format, or the file is damaged.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise ModelError(
            f"{file.name} is no network file by its name ({suffix or 'no suffix'})",
            f"HAMS reads {', '.join(sorted(FORMATS))}; save PyTorch's .pt and .pth as ONNX first (torch.onnx.export)",
        )
    if not file.stat().st_size:
        raise ModelError(f"{file.name} is empty", "fetch or export it again")
    if suffix == ".onnx":
        from hams_agents.inspect import onnx_file

        facts = onnx_file.read(file)
    else:
        facts = openvino_file.read(file)
    image = guess.image_of(facts.inputs)
    first = "" if any(len(one.shape) > 2 for one in facts.outputs) else "classification"
    likely = None if image is None else guess.guess(image, facts.format, facts.made_by, facts.metadata, first, {})
    return {**facts.plain(), "image": None if image is None else image.name, "input": likely and likely.input}


def try_on(
    device: str, name: str, path: str, input: Mapping[str, Any], further: Sequence[Mapping[str, Any]], sample: str
) -> dict[str, Any] | None:
    """Load the network on `device`, run it on noise, and write the outputs to the file `sample` (npz).

    `further`: its inputs besides the image, FurtherInput as plain values.

    Returns ``{"runtime", "ms", "cores"}``, the time of one image on so many cores, or ``{"runtime", "error", "hint"}``;
    None: there is no such device here.
    """
    try:
        pin(sorted(allowed_cores())[:MOST_CORES])
        backend = open_backend(parse(device))
    except DeviceSpecError:
        return None
    runtime = backend.capabilities.runtime
    spec = guess.checked(input)
    others = tensor_specs([FurtherInput.model_validate(one) for one in further])
    model = ModelFile(name, "", Path(path), spec.shape(), spec.dtype, further=others)
    try:
        network = backend.load(model)
        images = noise(model, 1)
        values = examples(model, 1)
        outputs = network.infer(images, further=values)
        start = time.perf_counter()
        network.infer(images, further=values)
        spent_ms = (time.perf_counter() - start) * 1e3
    except ModelError as error:
        return {"runtime": runtime, "error": error.text, "hint": error.hint}
    arrays: dict[str, Any] = {f"{index}:{output}": value for index, (output, value) in enumerate(outputs.items())}
    np.savez(sample, **arrays)
    return {"runtime": runtime, "ms": round(spent_ms, 2), "cores": len(allowed_cores())}


def suggest(facts: Mapping[str, Any], sample: str | None) -> dict[str, Any]:
    """Return the tasks that fit, best first, each with the input that a node would have.

    `facts`: what :func:`read` returned; `sample`: what :func:`try_on` wrote, None: it does not run. The result is
    ``{"outputs": [{"name", "shape", "dtype"}], "fits": [{"type", "params", "reason", "stand_ins", "detects", "input",
    "stated", "guessed"}]}``; outputs are as run, where it runs.
    """
    inputs, outputs = (
        [TensorInfo(one["name"], tuple(one["shape"]), one["dtype"]) for one in facts[kind]]
        for kind in ("inputs", "outputs")
    )
    image = guess.image_of(inputs)
    values = None
    if sample is not None:
        with np.load(sample) as archive:
            values = {name.partition(":")[2]: archive[name] for name in archive.files}
        outputs = [TensorInfo(name, value.shape, value.dtype.name) for name, value in values.items()]
    shown = [{**asdict(one), "shape": list(one.shape)} for one in outputs]
    if image is None:
        return {"outputs": shown, "fits": []}
    width, height = facts["input"]["size"]
    sized = (1, height, width, image.shape[3]) if facts["input"].get("layout") else (1, image.shape[1], height, width)
    seen = Seen(tuple(outputs), replace(image, shape=sized), facts["metadata"], values, facts["operators"])
    found = fitting(seen, guess.checked(facts["input"]))
    return {"outputs": shown, "fits": [_plain(fit, image, facts) for fit in found[:MOST_FITS]]}


def _plain(fit: Fit, image: TensorInfo, facts: Mapping[str, Any]) -> dict[str, Any]:
    known = guess.guess(image, facts["format"], facts["made_by"], facts["metadata"], fit.type, fit.params)
    return {
        **asdict(fit),
        "words": fit.words,
        "detects": callable(getattr(task_class(fit.type), "detect", None)),
        **asdict(known),
        "input": {**known.input, "size": facts["input"]["size"]},
    }
