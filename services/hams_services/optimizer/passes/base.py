"""A pass of the optimizer: one way to make a faster variant of a network, with a setting that is searched for."""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.trial import Start, Trial, TrialContext
from hams_services.optimizer.site import SiteFormats
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.wire.variants import Form, RuntimeFormat, VariantRecord

Networks = Mapping[RuntimeFormat, VariantRecord]


class Pass(ABC):
    """One way to make a faster variant of a network."""

    name: ClassVar[str]
    """As in commands and reports."""
    form: ClassVar[Form | Literal[""]] = ""
    """What its variants are called."""
    replaces: ClassVar[bool] = False
    """Whether later passes start from its result."""
    nothing: ClassVar[str] = ""
    """What to note where nothing is gained; empty: nothing."""
    part: ClassVar[float] = 1.0
    """Its part of a node's time, relative to the others."""

    def why_not(self, node: NodeSpec) -> str:
        """Return why it does not apply to `node`, whatever its network; empty: it does."""
        return ""

    def applies(self, node: NodeSpec) -> bool:
        """Return whether it applies to `node`."""
        return not self.why_not(node)

    def tool(self, start: Start) -> str:
        """Return the package that it needs."""
        return "onnx_ir"

    def title(self, start: Start) -> str:
        """Return what it is called in notes."""
        return self.name

    def floor(self, node: NodeSpec) -> float:
        """Return the agreement that its variants must reach."""
        return node.min_agreement

    def least(self, node: NodeSpec) -> float:
        """Return the agreement below which a network that `replaces` is dropped, in any format."""
        return self.floor(node)

    def starts(self, networks: Networks, site: SiteFormats) -> list[Start]:
        """Return what it starts from: the network as ONNX, unless a pass decides otherwise.

        Raises:
            UnsupportedModelError: there is no such network, or a tool is not installed.
        """
        if "onnx" not in networks:
            raise UnsupportedModelError("that needs the network as ONNX")
        return [Start(networks["onnx"])]

    @abstractmethod
    def make(self, context: TrialContext, setting: Any) -> Trial | None:
        """Make and compare the network with one setting; None: the setting changes nothing.

        Raises:
            UnsupportedModelError: the network does not allow it.
        """

    @abstractmethod
    def run(self, context: TrialContext) -> list[Trial]:
        """Search for the setting. Return the variants to keep, the main one first; none: nothing is gained.

        Where the floor is not reached, the main one is what comes nearest to it.
        """

    def apply(
        self,
        builder: VariantBuilder,
        start: Start,
        samples: NodeSamples,
        *,
        floor: float,
        budget_s: float = 300.0,
        source: VariantRecord | None = None,
        int8: Sequence[VariantRecord] = (),
        note: str = "",
    ) -> list[VariantRecord]:
        """Run the pass; nothing new is tried after `budget_s`. Return the variants to keep; others are removed.

        Trials are compared with `source`, or else with what it starts from. `int8`: INT8 variants of the same network
        at or above the floor. `note`: the key under which the end of the search is noted in the store.

        Raises:
            UnsupportedModelError: it does not apply to this node or network, or a tool is not installed.
            BadInputError: there are no samples, or nothing to compare on them.
        """
        if why := self.why_not(samples.node):
            raise UnsupportedModelError(why)
        if importlib.util.find_spec(self.tool(start)) is None:
            raise UnsupportedModelError(f"{self.tool(start)} is not installed", "pip install 'hams[nco]'")
        kept: list[VariantRecord] = []
        with builder.folder() as work:
            deadline = time.monotonic() + budget_s
            context = TrialContext(builder, start, samples, source or start.base, floor, deadline, work, int8)
            try:
                kept = [one.record for one in self.run(context)]
            finally:
                context.forget_all_but(kept)
        if note:
            builder.store.put_search(note, kept, budget_s if context.cut else None)
        return kept
