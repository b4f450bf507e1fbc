"""One network quantised in several ways until the agreement reaches the floor: what is tried, and what is chosen."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

from hams_services.optimizer.passes.quantization.kept_layers import KeepSearch
from hams_services.optimizer.passes.trial import Attempt, Attempts
from hams_shared.wire.variants import task_key

Scope = Literal["all", "layers"]
SCOPES: tuple[Scope, ...] = ("all", "layers")
"""What of a network is quantised: all that can be, or what has weights; see `nncf_ir`.
"""

LEAST_GAIN = 1.03
"""How much faster than its source INT8 must be that layers are looked for which spoil it."""


@dataclass(frozen=True)
class Trial(Attempt):
    """A network as it was quantised once."""

    scope: Scope
    done: dict[str, Any]
    """What the job said of it."""


@dataclass
class Trials:
    """Quantises one network again and again."""

    tries: Attempts
    compute: str = ""
    if_faster: bool = False
    """Where INT8 gains nothing here, do not look for the layers that spoil it."""

    def run(self, scopes: tuple[Scope, ...], floor: float, deadline: float) -> Trial:
        """The fastest way that reaches `floor`, or the one that comes nearest."""
        tries = self.tries
        whole = [self.make(scope, ()) for scope in scopes if not tries.made or time.monotonic() < deadline]
        good = [one for one in whole if one.agreement >= floor]
        if not good:
            nearest = max(whole, key=lambda one: one.agreement)
            if task_key(tries.node) not in nearest.record.agreements:  # it does not run
                return nearest
            if self.if_faster and not self._is_faster(nearest):
                return nearest
            return self.search(nearest, floor, deadline)
        if len(good) == 1:
            return good[0]
        said = tries.shop.say([one.record for one in good], tries.name, tries.node, tries.shown, True)
        return max(zip(good, said, strict=True), key=lambda pair: pair[1].fps)[0]

    def make(self, scope: Scope, kept: tuple[str, ...]) -> Trial:
        """Do it once and see how nearly it agrees."""
        tries = self.tries
        done = tries.shop.job.call(
            f"quantize-{tries.base.made.format}",
            source=tries.source,
            out=tries.out,
            tensors=str(tries.tensors),
            kept=kept,
            scope=scope,
            compute=self.compute,
        )
        one = tries.add(
            done,
            f"{scope}, {len(kept)} layers kept",
            {"scope": scope, "ranges": "minmax"},
            precision="i8",
            compute=self.compute,
            batch=done["batch"],
            kept=kept,
        )
        return Trial(one.record, one.agreement, one.new, scope, done)

    def _is_faster(self, coarse: Trial) -> bool:
        """Whether INT8 gains anything here: on processors without instructions for it, it may not."""
        tries = self.tries
        records = [tries.base, coarse.record]
        plain, small = tries.shop.say(records, tries.name, tries.node, tries.shown, True)
        if small.fps >= LEAST_GAIN * plain.fps:
            return True
        tries.shop.told(f"{tries.name}: {coarse.record.label} is no faster here ({plain.fps:.1f} → {small.fps:.1f}/s)")
        return False

    def search(self, coarse: Trial, floor: float, deadline: float) -> Trial:
        """Keep the worst layers of `coarse` in higher precision, as few as reach `floor`."""
        if time.monotonic() >= deadline:
            return coarse
        tries = self.tries
        tries.shop.told(f"{tries.name}: {coarse.record.label}, which layers spoil most")
        order: list[str] = tries.shop.job.call(
            f"rank-{tries.base.made.format}",
            source=coarse.done.get("prepared", tries.source),
            quantised=coarse.done["named"],
            tensors=str(tries.tensors),
        )["layers"]
        search = KeepSearch(max(0, len(order) - 1), floor, deadline)  # with all of them kept nothing is quantised
        search.add(0, coarse.agreement)
        tried = {0: coarse}
        now = -math.inf  # one is tried in any case: ranking took the time
        while (count := search.next(now)) is not None:
            tried[count] = self.make(coarse.scope, tuple(order[:count]))
            search.add(count, tried[count].agreement)
            now = time.monotonic()
        return tried[search.best]
