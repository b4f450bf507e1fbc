"""A network on an image smaller by any share of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from hams_services.optimizer.passes.share_trials import ShareTrials
from hams_services.optimizer.passes.trial import Attempt
from hams_shared.group.spec import NodeSpec

ALONG = {"text": "width", "classification": "both", "attributes": "both", "regression": "both", "embedding": "both"}
"""Tasks whose outputs say no places, and along which sides their image may be smaller: text is read along its width."""


@dataclass
class ShrinkTrials(ShareTrials):
    """Makes its image smaller again and again."""

    form = "shrunk"

    @classmethod
    def refusal(cls, node: NodeSpec) -> str:
        """Why not."""
        return "" if node.task.type in ALONG else f"what task {node.task.type} says are places in the image"

    def make(self, share: float) -> Attempt:
        """Do it once and see how nearly it agrees."""
        tries, given = self.tries, self.tries.takes
        done = tries.shop.job.call(
            "shrink",
            source=tries.source,
            out=tries.out,
            share=share,
            shape=given.shape(),
            layout=given.layout,
            along=ALONG[tries.node.task.type],
        )
        size = "×".join(map(str, done["size"]))
        settings = {"shrunk": f"{share:g}", "size": size, "floor": f"{self.floor:g}"}
        return tries.add(done, f"an image of {size}", settings)
