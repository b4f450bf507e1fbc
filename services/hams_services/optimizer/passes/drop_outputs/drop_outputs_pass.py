"""Dead output and class elimination: what the node's task never uses is not computed; the rest stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.passes.base import Pass
from hams_services.optimizer.passes.trial import Trial, TrialContext
from hams_shared.group.node_spec import NodeSpec

SAME = 0.999
"""The agreement of a network that computes less, but nothing else, but for rounding."""


class DropOutputs(Pass):
    """The setting is what the task uses of each output: numbers along the last axis; None: all of them."""

    name = "drop-outputs"
    form = "dropped-outputs"
    replaces = True
    part = 0.1

    def floor(self, node: NodeSpec) -> float:
        """Return the agreement of the same network."""
        return SAME

    def make(self, context: TrialContext, setting: Mapping[str, Sequence[int] | None]) -> Trial | None:
        """Remove what is not used; None: all of it is used."""
        function = "hams_services.optimizer.passes.drop_outputs.unused_outputs:drop_outputs"
        answer = context.call(function, used=setting)
        if not answer["files"]:
            return None
        return context.add(answer, f"without {answer['dropped']}", {self.form: answer["dropped"]}, calibration=None)

    def run(self, context: TrialContext) -> list[Trial]:
        """Ask the task what it uses; there is one setting."""
        builder, samples = context.builder, context.samples
        candidate = Candidate(builder.store.path(context.base))
        used = builder.evaluator(builder.devices["onnx"]).used_outputs(samples.name, samples.node, candidate)
        found = self.make(context, used)
        return [found] if found is not None else []
