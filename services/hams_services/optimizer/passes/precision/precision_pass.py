"""Precision: half-precision weights or computing in bf16, fixed batch, pre-processing in the graph; not calibrated."""

from __future__ import annotations

from hams_services.optimizer.passes.base import Networks, Pass
from hams_services.optimizer.passes.trial import Start, Trial, TrialContext
from hams_services.optimizer.site import SiteFormats
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import InputSpec
from hams_shared.group.node_spec import Precision as Kind
from hams_shared.wire.variants import VariantRecord, embedded_input


def convert(
    builder: VariantBuilder, base: VariantRecord, precision: Kind, batch: str = "", embed: InputSpec | None = None
) -> VariantRecord:
    """Make a variant of `base`; see :mod:`.conversion`.

    bf16 of an INT8 variant is what its layers that are not quantised are computed in.

    Raises:
        BadInputError: `base` is in a precision that cannot be converted.
        UnsupportedModelError: the format has no such variant.
    """
    before = base.made
    if before.precision != "fp32" and (before.precision, precision) not in (("int8", "bf16"), ("int8", "fp32")):
        raise BadInputError(f"{base.label} is no source of {precision} variants", "make them of the fp32 variant")
    with builder.folder() as out:
        answer = builder.run(
            "hams_services.optimizer.passes.precision.conversion:convert",
            {
                "source": str(builder.store.path(base)),
                "out": str(out),
                "format": before.format,
                "precision": precision,
                "batch": batch,
                "compute": before.compute,
                "embed": embed.model_dump(mode="json") if embed else None,
            },
        )
        return builder.derive(
            base,
            answer,
            precision=before.precision if before.precision == "int8" else precision,
            compute="bf16" if (before.precision, precision) == ("int8", "bf16") else before.compute,
            batch=answer["batch"],
            input=embedded_input(embed) if embed else before.input,
        )


class Precision(Pass):
    """The setting is the precision; each is a start of its own, and there is nothing to search for."""

    name = "precision"
    part = 0.05

    def tool(self, start: Start) -> str:
        """Return the library that writes the format."""
        return start.base.made.format

    def title(self, start: Start) -> str:
        """Return format, form and precision."""
        return " ".join(filter(None, (start.base.made.format, start.base.made.form, start.precision)))

    def starts(self, networks: Networks, site: SiteFormats) -> list[Start]:
        """Return the networks that devices read, in the precisions that those devices have."""
        read = [base for format, base in networks.items() if format in site.read]
        bf16 = [Start(base, precision="bf16") for base in read if base.made.format == "openvino" and site.bf16]
        return [*bf16, *(Start(base, precision="fp16") for base in read if base.made.format in site.half)]

    def make(self, context: TrialContext, setting: Kind) -> Trial:
        """Convert to one precision."""
        known = {record.model.digest for record in context.builder.store.of(context.base.made.source_digest)}
        record = convert(context.builder, context.base, setting)
        return context.compare(record, "converted", {}, new=record.model.digest not in known)

    def run(self, context: TrialContext) -> list[Trial]:
        """Convert to the one precision of the start."""
        return [self.make(context, context.start.precision)]
