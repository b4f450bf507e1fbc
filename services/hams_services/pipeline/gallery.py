"""Who is who: vectors seen before, and the numbers they were given. Pure.

It belongs to the pipeline, not to the agents: only there all results of a group come by, in frame order, whichever
replica computed them. One gallery serves all streams of a group, so that who leaves one camera is known at the next.
Numbers begin at 0 again when the group is deployed anew or the pipeline starts again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hams_shared.group.spec import GallerySpec, GroupSpec


@dataclass
class Gallery:
    """Known identities; at most ``spec.capacity``, the one not seen for longest gives way."""

    spec: GallerySpec
    _vectors: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    _names: list[int] = field(default_factory=list)
    _seen: list[int] = field(default_factory=list)
    _clock: int = 0
    _next: int = 0

    def __len__(self) -> int:
        return len(self._names)

    def identify(self, vectors: NDArray[np.float64], *, learn: bool = True) -> list[tuple[int | None, float]]:
        """Return (identity, cosine to what is known of it) for K×D vectors of one picture, each of length 1.

        Nobody is in a picture twice: pairs are taken best first. Who is like nobody gets a new identity, and similarity
        1; when not to `learn`, None and the best cosine there was.
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


@dataclass
class Galleries:
    """The galleries of one group, by node."""

    of: dict[str, Gallery] = field(default_factory=dict)

    @classmethod
    def for_group(cls, spec: GroupSpec) -> Galleries:
        """Empty galleries for the nodes that ask for one.

        One that is asked for wrongly is left out: the agents refuse its node, and say why.
        """
        asked = {name: node.task.params.get("gallery") for name, node in spec.nodes.items()}
        galleries = cls()
        for name, one in asked.items():
            if one is not None:
                with suppress(ValidationError):
                    galleries.of[name] = Gallery(GallerySpec.model_validate(one))
        return galleries

    def identify(self, objects: Sequence[dict[str, Any]], *, learn: bool) -> None:
        """Add ``identity`` and ``similarity`` beside each ``embedding`` of a frame's joined `objects`."""
        for node, gallery in self.of.items():
            told = list(_said(objects, node))
            vectors = _vectors([said.get("embedding") for said in told])
            if vectors is None:
                continue
            answers = gallery.identify(vectors, learn=learn)
            for said, (identity, similarity) in zip(told, answers, strict=True):
                said["identity"], said["similarity"] = identity, round(similarity, 4)


def _vectors(told: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return K×D vectors, or None when there are none, or a node told something else."""
    try:
        vectors = np.array(told, np.float64)
    except (TypeError, ValueError):
        return None
    return vectors if vectors.ndim == 2 and vectors.size and bool(np.isfinite(vectors).all()) else None


def _said(objects: Sequence[dict[str, Any]], node: str) -> Iterator[dict[str, Any]]:
    """What `node` says, at any depth."""
    for one in objects:
        for key, value in one.items():
            if not isinstance(value, dict):
                continue
            if key == node:
                yield value
            if isinstance(value.get("objects"), list):
                yield from _said(value["objects"], node)
