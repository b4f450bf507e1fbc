"""INT8 by post-training quantisation: NNCF for OpenVINO, ONNX Runtime's own quantiser (QDQ) for ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hams_services.optimizer.passes.base import Networks, Pass
from hams_services.optimizer.passes.search import kept_layers
from hams_services.optimizer.passes.trial import Start, Trial, TrialContext
from hams_services.optimizer.site import SiteFormats

Scope = Literal["all", "layers"]
SCOPES: tuple[Scope, ...] = ("all", "layers")
"""What of a network is quantised: all that can be, or what has weights; see `nncf_ir`."""
LEAST_GAIN = 1.03
"""How much faster than its source INT8 must be for a search for layers to keep."""
_MODULES = {
    "openvino": "hams_services.optimizer.passes.quantization.nncf_ir",
    "onnx": "hams_services.optimizer.passes.quantization.qdq",
}


@dataclass(frozen=True)
class Int8(Pass):
    """The setting is the scope and the layers kept in higher precision."""

    scopes: tuple[Scope, ...] = SCOPES
    if_faster: bool = False
    """Search for layers to keep only where INT8 gains speed on this host."""

    name = "int8"

    def tool(self, start: Start) -> str:
        """Return the quantiser."""
        return "nncf" if start.base.made.format == "openvino" else "onnxruntime"

    def title(self, start: Start) -> str:
        """Return format, precision, and what other layers compute in."""
        return f"{start.base.made.format} int8{'+' + start.compute if start.compute else ''}"

    def starts(self, networks: Networks, site: SiteFormats) -> list[Start]:
        """Return each network that devices read; for OpenVINO also with bf16 between, where a device has it."""
        read = [base for format, base in networks.items() if format in site.read]
        mixed = [Start(base, "bf16") for base in read if base.made.format == "openvino" and site.bf16]
        return [*(Start(base) for base in read), *mixed]

    def make(self, context: TrialContext, setting: tuple[str, tuple[str, ...]]) -> Trial:
        """Quantise with one setting."""
        scope, kept = setting
        answer = context.call(
            f"{_MODULES[context.base.made.format]}:quantize",
            tensors=str(context.calibration[0]),
            kept=kept,
            scope=scope,
            compute=context.start.compute,
        )
        return context.add(
            answer,
            f"{scope}, {len(kept)} layers kept",
            {"scope": scope, "ranges": "minmax"},
            precision="int8",
            compute=context.start.compute,
            batch=answer["batch"],
            kept=kept,
        )

    def run(self, context: TrialContext) -> list[Trial]:
        """Quantise all of it or only layers with weights, whichever is faster above the floor.

        Where both miss it, the worst layers are kept in higher precision, as few as reach the floor.
        """
        whole: list[Trial] = []
        for scope in self.scopes:
            if not whole or not context.late():
                whole.append(self.make(context, (scope, ())))
        good = [one for one in whole if one.agreement >= context.floor]
        if len(good) > 1:
            predictions = context.predict(good)
            good = [max(zip(good, predictions, strict=True), key=lambda pair: pair[1].fps)[0]]
        if good:
            return good
        nearest = max(whole, key=lambda one: one.agreement)
        if context.samples.key not in nearest.record.agreements:  # it does not run
            return [nearest]
        if context.late() or (self.if_faster and not self._is_faster(context, nearest)):
            return [nearest]
        return [self._search_kept(context, nearest)]

    def _is_faster(self, context: TrialContext, coarse: Trial) -> bool:
        """Return whether INT8 gains anything here: on processors without instructions for it, it may not."""
        plain, small = context.predict([Trial(context.base, 1.0), coarse])
        if small.fps >= LEAST_GAIN * plain.fps:
            return True
        speeds = f"({plain.fps:.1f} → {small.fps:.1f}/s)"
        context.builder.progress(f"{context.samples.name}: {coarse.record.label} is no faster here {speeds}")
        return False

    def _search_kept(self, context: TrialContext, coarse: Trial) -> Trial:
        """Keep the worst layers of `coarse` in higher precision, as few as reach the floor."""
        context.builder.progress(f"{context.samples.name}: {coarse.record.label}, ranking of its layers")
        arguments = {"quantised": coarse.answer["named"], "tensors": str(context.calibration[0])}
        if "prepared" in coarse.answer:
            arguments["source"] = coarse.answer["prepared"]
        source = arguments.pop("source", str(context.builder.store.path(context.base)))
        module = _MODULES[context.base.made.format]
        order = context.builder.run(f"{module}:rank", {"source": source, **arguments})["layers"]
        scope = coarse.record.made.settings["scope"]
        scale = kept_layers(max(0, len(order) - 1))  # with all of them kept nothing is quantised
        return context.search(scale, lambda count: self.make(context, (scope, tuple(order[:count]))), coarse)
