"""Passes whose setting is the share that is kept of the network or its image; in fp32 and in INT8."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import replace

from hams_services.optimizer.passes.base import Pass
from hams_services.optimizer.passes.quantization.int8_pass import Int8
from hams_services.optimizer.passes.search import LARGEST, shares
from hams_services.optimizer.passes.trial import Start, Trial, TrialContext
from hams_shared.wire.variants import VariantRecord


class SharePass(Pass):
    """The setting is the share that is left, 0…1."""

    part = 0.5

    @abstractmethod
    def make(self, context: TrialContext, setting: float) -> Trial:
        """Leave one share."""

    def run(self, context: TrialContext) -> list[Trial]:
        """Search for the least share, then for the least share in INT8 for each runtime that gains by INT8."""
        now, left = time.monotonic(), context.deadline - time.monotonic()
        first = replace(context, deadline=now + left * (0.5 if context.int8 else 1.0))
        found = [first.search(shares(), lambda share: self.make(context, share))]
        for index, coarse in enumerate(context.int8 if found[0].agreement >= context.floor else ()):
            if not context.late():
                left = context.deadline - time.monotonic()
                until = time.monotonic() + left / (len(context.int8) - index)
                found += self._int8(replace(context, deadline=until), coarse)
        return found

    def _int8(self, context: TrialContext, coarse: VariantRecord) -> list[Trial]:
        """Return the least share in INT8, quantised as `coarse` is; none where none reaches the floor.

        Errors add up about as their squares do, which gives the share to begin with.
        """
        alone = 1 - coarse.agreements[context.samples.key].value
        left = max((1 - context.floor) ** 2 - alone**2, 0.0) ** 0.5
        scale = shares(self._share_at(context, left), tolerance=0.06)
        best = context.search(scale, lambda share: self._quantize(context, self.make(context, share).record, coarse))
        return [best] if best.agreement >= context.floor else []

    def _quantize(self, context: TrialContext, plain: VariantRecord, coarse: VariantRecord) -> Trial:
        same, setting = coarse.made.format == plain.made.format, (coarse.made.settings["scope"], coarse.made.kept)
        with nullcontext(plain) if same else context.builder.temporary_ir(plain) as base:
            return Int8().make(replace(context, start=Start(base, coarse.made.compute)), setting)

    def _share_at(self, context: TrialContext, error: float) -> float:
        """Return the share at which leaving the rest out costs about `error`, by the trials; linear between."""
        plain = [one for one in context.trials if one.record.made.precision == "fp32"]
        points = {(float(one.record.made.settings[self.form]), 1 - one.agreement) for one in plain}
        known = sorted(points | {(1.0, 0.0)})
        for (low, high_error), (high, low_error) in itertools.pairwise(known):
            if low_error <= error <= high_error:
                part = (error - low_error) / max(high_error - low_error, 1e-9)
                return min(round(high - part * (high - low), 3), LARGEST)
        return LARGEST if error < known[-1][1] else known[0][0]
