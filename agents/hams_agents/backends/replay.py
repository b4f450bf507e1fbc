"""Outputs recorded by the digest of their input, so that an emulated device answers without computing them again.

The first time that a network sees an image its outputs are computed and recorded; afterwards they are read. Agents of
one host share the records: one SQLite file per network, input shape and runtime, in the agents' cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hams_agents.backends.base import NO_FURTHER, Backend, Further, ModelFile, Network
from hams_agents.backends.further import examples, rows
from hams_agents.backends.joining import concatenated
from hams_agents.backends.network import Array, noise, shape_text
from hams_shared.errors import ModelError

log = logging.getLogger("hams.agent")

MOST_BYTES = 1 << 30
"""Largest file of records; a full one takes no more."""
MOST_TOTAL_BYTES = 4 << 30
"""Most bytes of all files; those that were opened least recently are deleted."""
MOST_MISSES = 0.01
"""Share of misses from which on a measurement is void."""
WINDOW = 20
"""Heartbeats that a remark is about."""
_WAIT_S = 2.0
"""How long a file may be locked by another agent, s."""
_OPTIONS: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}


class Replays:
    """Images that a device has answered; its lanes count at the same time."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        """Whether the device replays at all."""
        self.replayed = 0
        self.misses = 0
        """Images whose outputs were not recorded and had to be computed."""
        self.full = ""
        """The file of records that takes no more; empty: none."""
        self._lock = threading.Lock()
        self._seen: deque[tuple[int, int]] = deque([(0, 0)], maxlen=WINDOW + 1)

    def add(self, replayed: int, misses: int) -> None:
        """Count the images of one inference."""
        with self._lock:
            self.replayed += replayed
            self.misses += misses

    def remarks(self) -> tuple[str, ...]:
        """Return for people what was replayed since the last `WINDOW` calls; call it once per heartbeat."""
        if not self.on:
            return ()
        with self._lock:
            self._seen.append((self.replayed, self.misses))
        replayed, misses = (last - first for first, last in zip(self._seen[0], self._seen[-1], strict=True))
        images = replayed + misses
        text = f"emulated, replays recorded outputs: {misses} of the last {images} images were computed"
        if misses > MOST_MISSES * images:
            text += f", which slows other devices: measurements with more than {MOST_MISSES:.0%} are void"
        return (text, f"{self.full} is full: delete it to record other images") if self.full else (text,)


def replays_of(backend: Backend) -> Replays:
    """Return the counts of a backend; of one that never replays, counts that stay 0."""
    found = getattr(backend, "replays", None)  # also behind a wrapper
    return found if isinstance(found, Replays) else Replays()


class Digest:
    """A digest of 24 bytes of one image's bytes, at 0.08 ms for 600 kB (SHA-256: 0.38 ms).

    Two sums of all 64-bit words times random weights (multilinear hashing), the second with the words shifted by four
    bytes, and the last eight bytes. A word's difference with t trailing zero bits goes unseen with a probability of
    2^(t-64), so two unlike images have one digest with 2^-64 or less (2^-36 for images of two values only).
    """

    def __init__(self, most_bytes: int) -> None:
        self._weights = np.random.PCG64(28).random_raw(most_bytes // 8 + 1)

    def __call__(self, image: Array) -> bytes:
        """Return the digest of an array of at most as many bytes as given."""
        data = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
        return self._sum(data) + self._sum(data[4:]) + data[-8:].tobytes()

    def _sum(self, data: Array) -> bytes:
        words = data[: len(data) // 8 * 8].view(np.uint64)
        return int(np.einsum("i,i", words, self._weights[: len(words)])).to_bytes(8, "little")


class Store:
    """Records of one network in a file that agents share. An error of the file is a miss, never one of the inference.

    A file that cannot be opened is replaced by records in memory; a damaged one begins anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.full = False
        self._lock = threading.Lock()
        try:
            self._db = self._open()
        except (sqlite3.Error, OSError) as error:
            damaged = getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            log.warning("recorded outputs %s: %s: %s", "are lost" if damaged else "stay in memory", path, error)
            if damaged:
                _delete(path)
            self._db = self._open() if damaged else _prepared(sqlite3.connect(":memory:", **_OPTIONS))
        weakref.finalize(self, self._db.close).atexit = False  # a network that is dropped is not closed

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()  # for `prune`
        return _prepared(sqlite3.connect(self.path, timeout=_WAIT_S, **_OPTIONS))

    def get(self, digest: bytes) -> bytes | None:
        """Return what is recorded under `digest`."""
        try:
            with self._lock, closing(self._db.execute("SELECT value FROM outputs WHERE digest = ?", (digest,))) as rows:
                row = rows.fetchone()
        except sqlite3.Error as error:
            log.warning("cannot read recorded outputs: %s: %s", self.path, error)
            return None
        return None if row is None else row[0]

    def put(self, digest: bytes, value: bytes) -> None:
        """Record `value`, unless the file is full."""
        if self.full:
            return
        try:
            with self._lock:
                self._db.execute("INSERT OR IGNORE INTO outputs VALUES (?, ?)", (digest, value))
        except sqlite3.Error as error:
            self.full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            log.warning("cannot record outputs: %s: %s", self.path, error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


class Replay:
    """A network whose outputs are read where they are recorded, and else computed by the real one.

    The real network is loaded for the first miss only: eight devices that replay take no memory and time for it.

    Args:
        model: the network's file.
        load: loads the real network.
        store: its records; closed with it.
        counts: of the device.

    Raises:
        ModelError: the real network cannot be loaded, or fails on a first image.
    """

    def __init__(self, model: ModelFile, load: Callable[[], Network], store: Store, counts: Replays) -> None:
        self._model = model
        self._load = load
        self._store = store
        self._counts = Replays()
        self._network: Network | None = None
        self._lock = threading.Lock()
        image = noise(model, 1)
        self._digest = Digest(image.nbytes)
        facts = store.get(b"facts")
        if facts is None:
            self._network = load()
            about = {"memory_mib": self._network.memory_mib, "metadata": dict(self._network.metadata)}
            facts = json.dumps(about).encode()
            store.put(b"facts", facts)
        known: dict[str, Any] = json.loads(facts)
        self.memory_mib: float = known["memory_mib"]
        self.metadata: Mapping[str, str] = known["metadata"]
        example = self.infer(image, further=examples(model, 1))
        self._empty = {name: value[:0] for name, value in example.items()}
        self._counts = counts

    def infer(self, batch: Array, *, further: Further = NO_FURTHER) -> dict[str, Array]:
        """Return the outputs of N images, each as the real network gives it alone."""
        if batch.shape[1:] != self._model.input_shape[1:]:
            raise ModelError(
                f"model {self._model.name} was given {shape_text(batch.shape)}, "
                f"not images of {shape_text(self._model.input_shape)}"
            )
        parts: list[dict[str, Array]] = []
        misses = 0
        for index, image in enumerate(batch):
            row = rows(further, index, index + 1)
            digest = self._digest(image) + b"".join(_digest_of(row[name]) for name in sorted(row))
            recorded = self._store.get(digest)
            parts.append(unpack(recorded) if recorded else self._compute(digest, batch[index : index + 1], row))
            misses += recorded is None
        self._counts.add(len(batch) - misses, misses)
        return _joined(parts) if parts else self._empty

    def leave_out(self) -> None:
        """Count what comes from now on apart from the device."""
        self._counts = Replays()

    def _compute(self, digest: bytes, image: Array, further: Further) -> dict[str, Array]:
        """Compute the outputs of one image and record them; one at a time."""
        with self._lock:
            if self._network is None:
                self._network = self._load()
            outputs = dict(self._network.infer(image, further=further))
        self._store.put(digest, pack(outputs))
        if self._store.full:
            self._counts.full = str(self._store.path)
        return outputs

    def close(self) -> None:
        """Release the real network and the file."""
        self._store.close()
        with self._lock:
            if self._network is not None:
                self._network.close()
            self._network = None


def _digest_of(value: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()[:16]


def pack(outputs: Mapping[str, Array]) -> bytes:
    """Return outputs as bytes: the length of a head, the head (JSON: name, type and shape of each), the numbers."""
    head = json.dumps([[name, value.dtype.str, value.shape] for name, value in outputs.items()]).encode()
    head += b" " * (-(len(head) + 4) % 8)  # the numbers begin at a multiple of their size
    return b"".join([len(head).to_bytes(4, "little"), head, *(value.tobytes() for value in outputs.values())])


def unpack(value: bytes) -> dict[str, Array]:
    """Return the outputs of :func:`pack`, which may be written to."""
    data = bytearray(value)
    start = 4 + int.from_bytes(data[:4], "little")
    outputs: dict[str, Array] = {}
    for name, dtype, shape in json.loads(data[4:start]):
        kind, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
        outputs[name] = np.frombuffer(data, kind, count, start).reshape(shape)
        start += count * kind.itemsize
    return outputs


def store_path(folder: Path, model: ModelFile, runtime: str) -> Path:
    """Return the file of a network's records under `folder`; `runtime` is all else that its numbers depend on."""
    about = f"{model.digest} {model.input_shape} {model.dtype} {runtime}"
    return folder / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.sqlite"


def prune(folder: Path, most_bytes: int = MOST_TOTAL_BYTES) -> None:
    """Delete files of records, those that were opened least recently first, until at most `most_bytes` are left."""
    with suppress(OSError):  # another agent does the same
        files = sorted(((path, path.stat()) for path in folder.glob("*.sqlite")), key=lambda file: -file[1].st_mtime)
        total = 0
        for path, state in files:
            total += state.st_size
            if total > most_bytes:
                _delete(path)


def _delete(path: Path) -> None:
    for name in (path, Path(f"{path}-journal")):
        name.unlink(missing_ok=True)


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    """Return `db` with its table. Its journal protects it from an agent that is killed, not from a power failure."""
    try:
        db.execute("PRAGMA page_size = 65536")  # of a new file: 1 MB is read in 0.2 ms; 4 kB, the default, takes 1.8
        page = db.execute("PRAGMA page_size").fetchone()[0]
        for setting in ("journal_mode = PERSIST", "synchronous = OFF", f"max_page_count = {MOST_BYTES // page}"):
            db.execute(f"PRAGMA {setting}")
        db.execute("CREATE TABLE IF NOT EXISTS outputs (digest BLOB PRIMARY KEY, value BLOB NOT NULL)")
    except BaseException:
        db.close()
        raise
    return db


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Put outputs of single images together, N first."""
    return {name: concatenated([part[name] for part in parts]) for name in parts[0]}
