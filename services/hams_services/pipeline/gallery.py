"""Identities: embeddings seen before, and the numbers given to them. Pure.

A gallery belongs to the pipeline, since all results of a group pass there in frame order, whichever replica computed
them. One gallery serves all streams of a group, so that a person who leaves one camera is recognised at the next.
Numbers begin at 0 again when the group is deployed again or the pipeline restarts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hams_shared.group.node_spec import GallerySpec
from hams_shared.group.spec import GroupSpec


@dataclass
class Gallery:
    """Known identities; at most ``spec.capacity``: a new one replaces the one not seen for longest."""

    spec: GallerySpec
    _vectors: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    _names: list[int] = field(default_factory=list)
    _seen: list[int] = field(default_factory=list)
    _clock: int = 0
    _next: int = 0

    def __len__(self) -> int:
        return len(self._names)

    def identify(self, vectors: NDArray[np.float64], *, learn: bool = True) -> list[tuple[int | None, float]]:
        """Return (identity, cosine to its known vector) for K×D vectors of one image, each of length 1.

        An identity occurs at most once in an image: pairs are matched by descending cosine. A vector without a match
        gets a new identity and similarity 1; without `learn` it gets None and its best cosine.
        """
        if self._vectors.shape[1] != vectors.shape[1]:
            self._vectors = np.empty((0, vectors.shape[1]))
            self._names, self._seen = [], []
        self._clock += 1
        cosines = vectors @ self._vectors.T
        answers: list[tuple[int | None, float]] = [(None, float(row.max(initial=0.0))) for row in cosines]
        taken: set[int] = set()
        alike = np.argwhere(cosines >= self.spec.threshold)
        order = np.argsort(-cosines[alike[:, 0], alike[:, 1]], kind="stable")
        for one, known in alike[order].tolist():
            if answers[one][0] is None and known not in taken:
                taken.add(known)
                answers[one] = (self._names[known], float(cosines[one, known]))
                if learn:
                    self._refresh(known, vectors[one])
        if learn:
            for one, (name, _) in enumerate(answers):
                if name is None:
                    answers[one] = (self._enter(vectors[one]), 1.0)
        return answers

    def _refresh(self, known: int, vector: NDArray[np.float64]) -> None:
        self._seen[known] = self._clock
        mixed = (1 - self.spec.update) * self._vectors[known] + self.spec.update * vector
        self._vectors[known] = mixed / max(float(np.linalg.norm(mixed)), 1e-9)

    def _enter(self, vector: NDArray[np.float64]) -> int:
        name, self._next = self._next, self._next + 1
        if len(self._names) >= self.spec.capacity:
            place = min(range(len(self._seen)), key=self._seen.__getitem__)
            self._vectors[place], self._names[place], self._seen[place] = vector, name, self._clock
        else:
            self._vectors = np.vstack((self._vectors, vector))
            self._names.append(name)
            self._seen.append(self._clock)
        return name


def galleries_of(spec: GroupSpec) -> dict[str, Gallery]:
    """Return empty galleries for the nodes of a group that ask for one, by node.

    A node with wrong parameters gets none: the agents refuse it and report the reason.
    """
    galleries = {}
    for name, node in spec.nodes.items():
        params = node.task.params.get("gallery")
        if params is not None:
            with suppress(ValidationError):
                galleries[name] = Gallery(GallerySpec.model_validate(params))
    return galleries


def identify(galleries: Mapping[str, Gallery], objects: Sequence[dict[str, Any]], *, learn: bool) -> None:
    """Add ``identity`` and ``similarity`` to each ``embedding`` among a frame's joined `objects`."""
    for node, gallery in galleries.items():
        outputs = list(_outputs(objects, node))
        vectors = _vectors([output.get("embedding") for output in outputs])
        if vectors is None:
            continue
        answers = gallery.identify(vectors, learn=learn)
        for output, (identity, similarity) in zip(outputs, answers, strict=True):
            output["identity"], output["similarity"] = identity, round(similarity, 4)


def _vectors(embeddings: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return K×D vectors, or None when there are none, or the node returned something else."""
    try:
        vectors = np.array(embeddings, np.float64)
    except (TypeError, ValueError):
        return None
    return vectors if vectors.ndim == 2 and vectors.size and bool(np.isfinite(vectors).all()) else None


def _outputs(objects: Sequence[dict[str, Any]], node: str) -> Iterator[dict[str, Any]]:
    """Yield the outputs of `node`, at any depth."""
    for one in objects:
        for key, value in one.items():
            if not isinstance(value, dict):
                continue
            if key == node:
                yield value
            if isinstance(value.get("objects"), list):
                yield from _outputs(value["objects"], node)
