"""One network of which more and more is left out until it just reaches the floor, in fp32 and in INT8."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

from hams_services.optimizer.passes.quantization.trials import Scope, Trials
from hams_services.optimizer.passes.share_search import LARGEST, ShareSearch
from hams_services.optimizer.passes.trial import Attempt, Attempts
from hams_shared.group.spec import NodeSpec
from hams_shared.wire.variants import VariantRecord, task_key


@dataclass
class ShareTrials(ABC):
    """Makes an ONNX network with a share of it left, again and again."""

    tries: Attempts
    floor: float
    form: ClassVar[str]
    """What it is called, and the setting that says the share."""

    @classmethod
    def refusal(cls, node: NodeSpec) -> str:
        """Why nothing is left out of what serves `node`, whatever its network; empty: it may be tried."""
        return ""

    @abstractmethod
    def make(self, share: float) -> Attempt:
        """Do it once and see how nearly it agrees. Raises UnsupportedModelError: the network does not allow it."""

    def run(self, deadline: float) -> Attempt:
        """The least that reaches the floor, or what comes nearest to it."""
        search = ShareSearch(self.floor, deadline)
        tried: dict[float, Attempt] = {}
        while (share := search.next(time.monotonic())) is not None:
            tried[share] = self.make(share)
            search.add(share, tried[share].agreement)
        return tried[search.best] if search.best is not None else max(tried.values(), key=lambda one: one.agreement)

    def quantised(self, coarse: VariantRecord, deadline: float) -> Attempt | None:
        """The least that reaches the floor in INT8, quantised as `coarse` is, for its runtime; None: none does.

        Errors add up about as their squares do, which says where to begin.
        """
        key = task_key(self.tries.node)
        alone = 1 - coarse.agreements[key].value
        left = max((1 - self.floor) ** 2 - alone**2, 0.0) ** 0.5
        search = ShareSearch(self.floor, deadline, first=self._share_at(left), near=0.06)
        found: dict[float, Attempt] = {}
        while (share := search.next(time.monotonic())) is not None:
            plain = self.make(share)
            found[share] = self._quantise(plain.record, coarse)
            search.add(share, found[share].agreement)
        return found[search.best] if search.best is not None else None

    def _quantise(self, plain: VariantRecord, coarse: VariantRecord) -> Attempt:
        scope: Scope = "layers" if coarse.made.settings.get("scope") == "layers" else "all"
        same = coarse.made.format == plain.made.format
        with nullcontext(plain) if same else self.tries.shop.temporary_ir(plain) as base:
            return Trials(replace(self.tries, base=base), coarse.made.compute).make(scope, coarse.made.kept)

    def _share_at(self, error: float) -> float:
        """The share at which leaving the rest out costs about `error`, from what was tried; linear between."""
        plain = [one for one in self.tries.made if one.record.made.precision == "f32"]
        known = sorted(
            {(float(one.record.made.settings[self.form]), 1 - one.agreement) for one in plain} | {(1.0, 0.0)}
        )
        for (low, high_error), (high, low_error) in itertools.pairwise(known):
            if low_error <= error <= high_error:
                part = (error - low_error) / max(high_error - low_error, 1e-9)
                return min(round(high - part * (high - low), 3), LARGEST)
        return LARGEST if error < known[-1][1] else known[0][0]
