"""Filter pruning: the channels of least saliency are removed, and what reads the others is fitted by least squares.

No training and no labels: what is left of a layer is fitted to the output of all of it for the samples.
"""

from __future__ import annotations

from hams_services.optimizer.passes.share import SharePass
from hams_services.optimizer.passes.trial import Trial, TrialContext

_MODULE = "hams_services.optimizer.passes.filter_pruning.channel_statistics"


class FilterPruning(SharePass):
    """The setting is the share of the multiplications that is left."""

    name = "prune"
    form = "pruned"

    def make(self, context: TrialContext, setting: float) -> Trial:
        """Prune to one share; channel statistics are computed once."""
        statistics = context.work / "channel_statistics.npz"
        if not statistics.exists():
            context.builder.progress(f"{context.samples.name}: channel statistics")
            layout, tensors = context.input.layout, str(context.calibration[0])
            context.call(f"{_MODULE}:channel_statistics", out=str(statistics), tensors=tensors, layout=layout)
        answer = context.call(f"{_MODULE}:prune", statistics=str(statistics), share=setting)
        settings = {self.form: f"{setting:g}", "floor": f"{context.floor:g}"}
        return context.add(answer, f"{answer['share']:.0%} of the multiplications left", settings)
