"""Identities: vectors seen before, and the numbers given to them. Pure.

A gallery belongs to the pipeline, since all results of a group pass there in frame order, whichever replica computed
them. One gallery serves all streams of a group, so that a person who leaves one camera is recognised at the next.
:mod:`hams_services.pipeline.gallery_keeper` keeps galleries on the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hams_services.pipeline.gallery_tracks import Sighting, TrackIdentity, Tracks, Vector, unit
from hams_shared.group.node_spec import GallerySpec
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import FrameId
from hams_shared.wire.messages.gallery import Identity

MAX_BYTES = 64 << 20
"""Most bytes of a gallery's stored vectors, whatever its capacity."""
BYTES = 2
"""Of one number of a stored vector, a float16."""
PAGE_BYTES = 32 << 10
"""Of the vectors of one stored page: a person in view costs one such page at each save."""
BLOCK = 1 << 17
"""Numbers of a block of vectors that are multiplied at once."""
DAY_S = 86_400.0

Answer = tuple[int | None, float]
"""The identity, None where there is none (yet), and the cosine to its vector, or the best cosine found."""


def rows_of(dims: int) -> int:
    """Return how many vectors of `dims` numbers one page holds."""
    return max(1, PAGE_BYTES // (BYTES * max(dims, 1)))


def products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the K×N scalar products of K×D and N×D vectors.

    In blocks, and a query at a time: OpenBLAS spreads larger products over threads that wait for each other by
    spinning, at 9 ms of CPU time for 10 × 1000 vectors of 256 numbers on two cores instead of 0.3 ms.
    """
    found = np.empty((len(queries), len(vectors)), np.float32)
    rows = max(1, BLOCK // vectors.shape[1])
    for begin in range(0, len(vectors), rows):
        block = vectors[begin : begin + rows]
        for one, query in enumerate(queries):
            found[one, begin : begin + rows] = block @ query
    return found


class Gallery:
    """Known identities; at most ``spec.capacity`` and MAX_BYTES.

    A new one replaces the one not seen for longest, one without a name first. Numbers are never given twice.
    `dirty` holds the pages (`rows` slots each) that differ from what is stored.
    """

    def __init__(self, spec: GallerySpec, network: str = "", next_: int = 0) -> None:
        self.spec, self.network, self.next = spec, network, next_
        self.known: dict[int, Identity] = {}
        """By slot."""
        self.dirty: set[int] = set()
        self.mismatch = 0
        """Numbers in the node's vectors where they are not those of the known ones, which cannot be compared."""
        self.vectors: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        """Slots × dims, each of length 1; zeros where a slot is free."""
        self._slots: dict[int, int] = {}
        self._seen: NDArray[np.float64] = np.zeros(0)
        """When each slot was seen, much later for one with a name: the order in which slots are given away."""
        self._tracks = Tracks()

    def __len__(self) -> int:
        return len(self.known)

    @property
    def dims(self) -> int:
        """Numbers in a vector; 0: not known yet."""
        return int(self.vectors.shape[1])

    @property
    def rows(self) -> int:
        """Slots of a page."""
        return rows_of(self.dims)

    @property
    def pages(self) -> int:
        """Pages with slots."""
        return -(-len(self.vectors) // self.rows)

    @property
    def limit(self) -> int:
        """Most identities."""
        return max(1, min(self.spec.capacity, MAX_BYTES // (BYTES * max(self.dims, 1))))

    def change(self, spec: GallerySpec) -> None:
        """Recognise and keep by `spec` from now on; what is more than its capacity goes."""
        self.spec = spec
        more = len(self.known) - self.limit
        if more > 0:
            oldest = sorted(self.known.values(), key=lambda one: (bool(one.name), one.seen))
            self.forget([one.identity for one in oldest[:more]])

    # ── recognising ───────────────────────────────────────────────────────────────────────────────────────────

    def identify(
        self,
        vectors: NDArray[np.floating[Any]],
        now: float = 0.0,
        *,
        learn: bool = True,
        sightings: Sequence[Sighting | None] = (),
    ) -> list[Answer]:
        """Return an answer for each of K×D vectors of one image, each of length 1; `now` is Unix time.

        An identity occurs at most once in an image: pairs are matched by descending cosine. A vector without a match
        gets a new identity and similarity 1; without `learn` it gets None and its best cosine. An object of a track
        (`sightings`, None for others) is decided by :mod:`hams_services.pipeline.gallery_tracks`.
        """
        found = np.asarray(vectors, np.float32)
        if not self.known and self.dims != found.shape[1]:
            self._set_dims(found.shape[1])
        if self.dims != found.shape[1]:
            self.mismatch = found.shape[1]
            return [(None, 0.0)] * len(found)
        tracks = self._take(found, sightings if learn else ())
        taken = self._kept(found, tracks)
        queries = np.stack([found[i] if track is None else track.mean for i, track in enumerate(tracks)])
        cosines = products(queries, self.vectors)
        self._match(cosines, tracks, taken)
        answers: list[Answer] = []
        for one in range(len(found)):
            slot = taken.get(one)
            if slot is not None:
                answers.append((self.known[slot].identity, float(cosines[one, slot])))
            else:
                answers.append((None, float(cosines[one].max(initial=0.0))))
        return self._learn(queries, tracks, taken, answers, now) if learn else answers

    def _take(self, vectors: Vector, sightings: Sequence[Sighting | None]) -> list[TrackIdentity | None]:
        padded = [*sightings, *[None] * (len(vectors) - len(sightings))]
        return [None if s is None else self._tracks.take(s, vectors[i]) for i, s in enumerate(padded)]

    def _kept(self, vectors: Vector, tracks: Sequence[TrackIdentity | None]) -> dict[int, int]:
        """Return the slots of the tracks that keep their identity, by object; the others lose theirs."""
        held = []
        for one, track in enumerate(tracks):
            if track is None or track.identity is None:
                continue
            slot = self._slots.get(track.identity)
            if slot is None or track.doubt(float(vectors[one] @ self.vectors[slot]), self.spec.threshold):
                track.restart(vectors[one])
            else:
                held.append((-float(track.mean @ self.vectors[slot]), one, slot, track))
        taken: dict[int, int] = {}
        for _, one, slot, track in sorted(held, key=lambda h: h[:2]):
            if slot in taken.values():
                track.restart(vectors[one])
            else:
                taken[one] = slot
        return taken

    def _match(self, cosines: Vector, tracks: Sequence[TrackIdentity | None], taken: dict[int, int]) -> None:
        """Add the best pairs of objects and free identities to `taken`."""
        alike = np.argwhere(cosines >= self.spec.threshold)
        order = np.argsort(-cosines[alike[:, 0], alike[:, 1]], kind="stable")
        used = set(taken.values())
        for one, slot in alike[order].tolist():
            track = tracks[one]
            if one in taken or slot in used or not (track is None or track.settled):
                continue
            taken[one] = slot
            used.add(slot)

    def _learn(
        self,
        queries: Vector,
        tracks: Sequence[TrackIdentity | None],
        taken: Mapping[int, int],
        answers: list[Answer],
        now: float,
    ) -> list[Answer]:
        for one, track in enumerate(tracks):
            if one in taken:
                self._refresh(taken[one], queries[one], now, mix=track is None or track.fresh)
        for one, track in enumerate(tracks):
            if one not in taken and (track is None or track.settled):
                answers[one] = (self._enter(queries[one], now), 1.0)
            if track is not None:
                track.identity = answers[one][0]
        return answers

    def _refresh(self, slot: int, vector: Vector, now: float, *, mix: bool) -> None:
        if mix:
            self.vectors[slot] = unit((1 - self.spec.update) * self.vectors[slot] + self.spec.update * vector)
        known = self.known[slot]
        self._put(slot, known.model_copy(update={"seen": max(known.seen, now)}))

    def _enter(self, vector: Vector, now: float) -> int:
        slot = self._free()
        identity, self.next = self.next, self.next + 1
        self.vectors[slot] = vector
        self._put(slot, Identity(identity=identity, since=now, seen=now))
        return identity

    def _free(self) -> int:
        """Return a free slot: that of the identity that has to go, one that was forgotten, or a new one.

        There may be more slots than the limit: of a higher capacity before.
        """
        limit = self.limit
        if len(self.known) >= limit:
            slot = int(self._seen.argmin())  # free ones are at infinity
            self._remove(slot)
            return slot
        if len(self.known) < len(self.vectors):
            return int(np.isinf(self._seen).argmax())
        slot = len(self.vectors)
        self._grow(min(limit, slot + max(16, slot // 4)))
        return slot

    def _grow(self, size: int) -> None:
        more = size - len(self.vectors)
        self.vectors = np.concatenate((self.vectors, np.zeros((more, self.dims), np.float32)))
        self._seen = np.concatenate((self._seen, np.full(more, np.inf)))

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────

    def _set_dims(self, dims: int) -> None:
        self.vectors, self._seen = np.zeros((0, dims), np.float32), np.zeros(0)
        self.mismatch = 0
        self._tracks.clear()

    def _put(self, slot: int, known: Identity) -> None:
        self.known[slot] = known
        self._slots[known.identity] = slot
        self._seen[slot] = known.seen + (1e12 if known.name else 0.0)
        self.dirty.add(slot // self.rows)

    def _remove(self, slot: int) -> None:
        del self._slots[self.known.pop(slot).identity]
        self.vectors[slot], self._seen[slot] = 0.0, np.inf
        self.dirty.add(slot // self.rows)

    def name_of(self, identity: int | None) -> str:
        """Return the name of an identity; empty where it has none."""
        slot = None if identity is None else self._slots.get(identity)
        return "" if slot is None else self.known[slot].name

    def rename(self, identity: int, name: str) -> bool:
        """Give a name, or take it away (empty); return whether the identity is known."""
        slot = self._slots.get(identity)
        if slot is not None:
            self._put(slot, self.known[slot].model_copy(update={"name": name}))
        return slot is not None

    def forget(self, identities: Iterable[int]) -> int:
        """Forget identities, their vectors and the averages of their tracks; return how many were known."""
        gone = {one for one in identities if one in self._slots}
        for identity in gone:
            self._remove(self._slots[identity])
        self._tracks.forget(gone)
        return len(gone)

    def older(self, than: float) -> list[int]:
        """Return the identities that were not seen since `than`, Unix time."""
        return [one.identity for one in self.known.values() if one.seen <= than]

    def expire(self, now: float) -> int:
        """Forget what is older than ``keep_days``; return how many."""
        days = self.spec.keep_days
        return 0 if not days else self.forget(self.older(now - days * DAY_S))

    def fill(self, known: Sequence[Identity], vectors: Vector, slots: Sequence[int] | None = None) -> None:
        """Replace everything with K identities and their K×D vectors; without `slots` all is to be stored anew.

        Where they are more than the limit, those not seen for longest are left out.
        """
        self.known, self._slots = {}, {}
        self._set_dims(vectors.shape[1])
        if len(known) > self.limit or slots is None:
            newest = sorted(range(len(known)), key=lambda i: (not known[i].name, -known[i].seen))[: self.limit]
            known, vectors, slots = [known[i] for i in newest], vectors[newest], range(len(newest))
            stored = False
        else:
            stored = True
        if known:
            self._grow(max(slots) + 1)
        for slot, one, vector in zip(slots, known, vectors, strict=True):
            self.vectors[slot] = unit(vector)
            self._put(slot, one)
        self.next = max([self.next, *(one.identity + 1 for one in known)])
        self.dirty = set() if stored else set(range(self.pages))


# ── the objects of a frame ────────────────────────────────────────────────────────────────────────────────────


def galleries_of(spec: GroupSpec, networks: Mapping[str, str] | None = None) -> dict[str, Gallery]:
    """Return empty galleries for the nodes of a group that ask for one, by node; `networks` are digests by node.

    A node with wrong parameters gets none: the agents refuse it and report the reason.
    """
    galleries = {}
    for name, node in spec.nodes.items():
        params = node.task.params.get("gallery")
        if params is not None:
            with suppress(ValidationError):
                galleries[name] = Gallery(GallerySpec.model_validate(params), (networks or {}).get(name, ""))
    return galleries


def identify(
    galleries: Mapping[str, Gallery],
    objects: Sequence[dict[str, Any]],
    id: FrameId,
    now: float,
    *,
    learn: bool,
    run: str = "",
) -> None:
    """Add ``identity``, ``similarity`` and ``name`` to each ``embedding`` among a frame's joined `objects`.

    Objects that carry ``track`` (and ``age_s``) have one identity per track of the stream's `run`; of an answer that is
    carried on from an earlier frame, ``from_frame`` says so. `now` is Unix time.
    """
    for node, gallery in galleries.items():
        found = [
            (output, vector, sighting)
            for output, one in _outputs(objects, node, {})
            if (vector := _vector(output.get("embedding"))) is not None
            for sighting in [_sighting(id, run, one, output)]
        ]
        found = [entry for entry in found if len(entry[1]) == len(found[0][1])]
        if not found:
            continue
        keys = [s.key for _, _, s in found if s is not None]
        sightings = [s if s is not None and keys.count(s.key) == 1 else None for _, _, s in found]
        answers = gallery.identify(np.stack([v for _, v, _ in found]), now, learn=learn, sightings=sightings)
        for (output, _, _), (identity, similarity) in zip(found, answers, strict=True):
            output["identity"], output["similarity"] = identity, round(similarity, 4)
            output.pop("name", None)
            if name := gallery.name_of(identity):
                output["name"] = name


def _sighting(id: FrameId, run: str, one: Mapping[str, Any], output: Mapping[str, Any]) -> Sighting | None:
    """Return the sighting of the track that an object, or the object around it, belongs to."""
    track, age = one.get("track"), one.get("age_s", 0.0)
    if not isinstance(track, int):
        return None
    from_frame = output.get("from_frame", id.frame)
    return Sighting((id.stream, run, track), from_frame, age if isinstance(age, int | float) else 0.0)


def _vector(embedding: Any) -> NDArray[np.float32] | None:
    """Return D numbers, not all 0; None when the node returned something else."""
    try:
        vector = np.array(embedding, np.float32)
    except (TypeError, ValueError):
        return None
    fine = vector.ndim == 1 and vector.size and bool(np.isfinite(vector).all()) and bool(vector.any())
    return unit(vector) if fine else None


def _outputs(
    objects: Sequence[dict[str, Any]], node: str, around: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Yield the outputs of `node`, at any depth, each with the nearest object that has a track."""
    for one in objects:
        owner = one if "track" in one else around
        for key, value in one.items():
            if not isinstance(value, dict):
                continue
            if key == node:
                yield value, owner
            if isinstance(value.get("objects"), list):
                yield from _outputs(value["objects"], node, owner)
