"""What deploying a group needs of files: its networks are fetched and named by their content, then stored.

Blocking parts run in a thread, and `progress` is called from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hams_services.models.further_inputs import Port, further_inputs
from hams_services.models.uploads import UPLOADED, pulled
from hams_shared.bus.control import Control, Progress
from hams_shared.errors import HamsError, ModelError, ModelFetchError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.variants import model_ref

Files = list[tuple[str, bytes]]
"""Suffix and content; an IR's ``.xml`` comes before its ``.bin``."""
NONE: Mapping[str, Path] = {}
NO_REFS: Mapping[str, ModelRef] = {}


@dataclass(frozen=True)
class PreparedModel:
    """A model ready to be stored."""

    ref: ModelRef
    parts: dict[str, bytes]
    """By digest."""


@dataclass(frozen=True)
class Made:
    """A network as agents get it."""

    files: Files
    ports: tuple[Port, ...] = ()
    """Its inputs; of formats other than ONNX only where they were asked for."""


Make = Callable[[Path, Sequence[str], Sequence[int], bool], Made]
"""Returns what agents get of a network: from its path, the outputs at which it is cut, its image's shape, and whether
its inputs are needed.
"""


def prepare_model(
    node: str,
    spec: GroupSpec,
    cache: Path,
    progress: Progress,
    *,
    make: Make | None = None,
    uploads: Mapping[str, Path] = NONE,
) -> PreparedModel:
    """Fetch a node's network, convert it to the form that agents take, and name it by its content.

    `make` reads the file, perhaps in another process; `uploads` are files of ``uploaded:`` networks, by node.

    Raises:
        ModelFetchError: the source does not have it.
        DigestError: its digest is not the one in the group file.
        ModelError: it is empty or not a network file.
    """
    from hams_services.models.sources import fetch

    part = spec.nodes[node]
    with _about(f"node {node}"):
        source = str(uploads.get(node, part.model))
        path = fetch(source, part.digest, cache, partial(progress, f"fetch {node}"))
        _check(path)
        made = (make or network_files)(path, part.outputs, part.input.shape(), bool(part.inputs))
        further = further_inputs(part, made.ports) if made.ports else ()
    name = part.model.removeprefix(UPLOADED) if node in uploads else path.stem
    ref = model_ref(name, made.files).model_copy(update={"further": further})
    return PreparedModel(ref, {one.digest: content for one, (_, content) in zip(ref.parts, made.files, strict=True)})


def _check(path: Path) -> None:
    """Raise ModelError unless `path` may be a network: a file with something in it, or a model's folder."""
    from hams_services.models import vlm
    from hams_services.models.files import MAX_BYTES

    if path.is_dir() and not vlm.is_vlm(path):
        raise ModelError(
            f"{path} is a folder, not a network file", f"only a vision language model is one, with its {vlm.MAIN}"
        )
    if not path.stat().st_size:
        raise ModelError(f"{path} is empty")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES >> 30} GiB", "is it a network?")


def network_files(path: Path, outputs: Sequence[str], shape: Sequence[int], ports: bool = False) -> Made:
    """Return what agents get of the network in `path`; see :data:`Make`."""
    # 0.5 s of imports, which other commands save.
    from hams_services.models import vlm
    from hams_services.models.cut import cut
    from hams_services.models.ports import onnx_network, ports_of

    if vlm.is_vlm(path):
        if outputs:
            raise ModelError(f"{path.name} is a vision language model, which cannot be cut", "leave `outputs` out")
        return Made([(".zip", vlm.packed(path))], ())
    if path.suffix.lower() == ".onnx":
        content, found = onnx_network(path, outputs, shape)
        return Made([(".onnx", content)], found)
    files = _files(path) if not outputs else cut(path, outputs)
    return Made(files, ports_of(files) if ports else ())


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Add the part of the group file to errors."""
    try:
        yield
    except HamsError as error:
        raise type(error)(f"{what}: {error.text}", error.hint) from None


def _files(path: Path) -> Files:
    """Return a network's files unchanged: suffix and content, the main one first."""
    files = [(path.suffix.lower(), path.read_bytes())]
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin")
        if not weights.exists():
            raise ModelError(f"{path.name} needs its weights {weights.name} in the same folder")
        files.append((".bin", weights.read_bytes()))
    return files


def prepare_group(
    spec: GroupSpec,
    cache: Path,
    progress: Progress,
    *,
    elsewhere: bool = False,
    make: Make | None = None,
    known: Mapping[str, ModelRef] = NO_REFS,
    playing: Collection[str] = (),
    uploads: Mapping[str, Path] = NONE,
) -> tuple[GroupRecord, dict[str, bytes]]:
    """Fetch all networks and check all streams of `spec`; return the record and the files by digest.

    If the pipeline runs `elsewhere`, on another host or in another container, its files need not be here. Networks of
    the nodes in `known` are stored already, and the streams in `playing` are not checked. `make` and `uploads`: see
    :func:`prepare_model`.
    """
    from hams_services.models.sources import fetch

    models: dict[str, ModelRef] = {}
    files: dict[str, bytes] = {}
    for node in spec.depth_first():
        if node in known:
            models[node] = known[node]
            continue
        prepared = prepare_model(node, spec, cache, progress, make=make, uploads=uploads)
        models[node] = prepared.ref
        files.update(prepared.parts)
    for name, stream in spec.streams.items():
        if name in playing or source_kind(stream.source) != "file" or any(c in stream.source for c in "*?["):
            continue  # it need not exist yet
        with _about(f"stream {name}"):
            if ":" not in stream.source and not Path(stream.source).expanduser().exists():
                if elsewhere:
                    continue
                raise ModelFetchError(f"{stream.source} does not exist on this host, where pipeline and hams-ctl run")
            fetch(stream.source, None, cache, partial(progress, f"fetch {name}"))
    return GroupRecord(spec=spec, models=models, deployed_at=time.time()), files


async def prepared(
    control: Control,
    spec: GroupSpec,
    progress: Progress,
    *,
    make: Make | None = None,
    known: Mapping[str, ModelRef] = NO_REFS,
    playing: Collection[str] = (),
) -> tuple[GroupRecord, dict[str, bytes]]:
    """Do as :func:`prepare_group` for the pipeline and the uploads of `control`."""
    uploads = {
        node: await pulled(control.bus, part.model.removeprefix(UPLOADED), cache_folder())
        for node, part in spec.nodes.items()
        if part.model.startswith(UPLOADED) and node not in known
    }
    elsewhere = await control.pipeline_is_elsewhere()
    prepare = partial(prepare_group, elsewhere=elsewhere, make=make, known=known, playing=playing, uploads=uploads)
    return await asyncio.to_thread(prepare, spec, cache_folder(), progress)


async def bring_in(
    control: Control,
    spec: GroupSpec,
    progress: Progress,
    *,
    make: Make | None = None,
    known: Mapping[str, ModelRef] = NO_REFS,
    playing: Collection[str] = (),
) -> GroupRecord:
    """Fetch the group's networks and upload them; return the group's record."""
    record, files = await prepared(control, spec, progress, make=make, known=known, playing=playing)
    await control.upload(files, progress)
    return record


async def bring_in_changes(control: Control, spec: GroupSpec, runs: GroupRecord, progress: Progress) -> GroupRecord:
    """Do as :func:`bring_in` for what differs from the group that `runs`; the rest is left as it is."""
    known = {name: runs.models[name] for name, node in spec.nodes.items() if same_network(runs.spec, name, node)}
    playing = {name for name, stream in spec.streams.items() if _source(runs.spec, name) == stream.source}
    return await bring_in(control, spec, progress, known=known, playing=playing)


def same_network(before: GroupSpec, name: str, node: NodeSpec) -> bool:
    """Whether the node `name` is the same network as in the group `before`, made the same way, as far as keys tell."""
    old = before.nodes.get(name)
    return old is not None and all(getattr(old, key) == getattr(node, key) for key in _MADE_OF)


_MADE_OF = ("model", "outputs", "digest", "input", "inputs")
"""What a network is fetched and made by."""


def _source(spec: GroupSpec, stream: str) -> str | None:
    return spec.streams[stream].source if stream in spec.streams else None


def write_files(path: str, outputs: Sequence[str], shape: Sequence[int], ports: bool, folder: str) -> dict[str, Any]:
    """Write what :func:`network_files` returns into `folder`; return ``files``, suffix and path of each, and ``ports``,
    name, shape and type of each. For a child process."""
    made = network_files(Path(path), outputs, shape, ports)
    written = []
    for suffix, content in made.files:
        target = Path(folder) / f"made{suffix}"
        target.write_bytes(content)
        written.append((suffix, str(target)))
    return {"files": written, "ports": [(port.name, port.shape, port.dtype) for port in made.ports]}


def read_files(written: Mapping[str, Any]) -> Made:
    """Read what :func:`write_files` wrote."""
    files = [(suffix, Path(name).read_bytes()) for suffix, name in written["files"]]
    ports = tuple(Port(name, None if dims is None else tuple(dims), dtype) for name, dims, dtype in written["ports"])
    return Made(files, ports)
