"""The report of a job."""

from __future__ import annotations

from hams_services.optimizer.recipe import NodeOutcome
from hams_services.optimizer.report import gain, how, markdown
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import VariantChoice
from hams_shared.wire.messages.scheduler import MatrixView, StrategyAnswer, VariantRow
from hams_shared.wire.variants import Made, VariantRecord
from support.build import group_spec, model_ref


def test_report() -> None:
    spec = group_spec("face", ("det", "age"))
    record = GroupRecord(spec=spec, models={n: model_ref(n) for n in spec.nodes}, deployed_at=1.0)
    choice = VariantChoice(model=model_ref("d8"), label="int8", agreement=0.99, fps=40.0, source_fps=20.0)
    answer = StrategyAnswer(
        strategy="hfs",
        shares={"det": {"box.ov.cpu0": 1.0}, "age": {"box.ov.cpu0": 1.0}},
        variants={"det": {"box.ov.cpu0": choice}},
        fps=30.0,
        source_fps=15.0,
    )
    row = VariantRow(node="face/det", model="det", digest="d8", label="int8", agreement=0.99, floor=0.98, fps=(40.0,))
    other = row.model_copy(update={"node": "other/det"})
    matrix = MatrixView(models=("det",), devices=("box.ov.cpu0",), fps=((20.0,),), variants=(row, other))
    outcomes = {"det": NodeOutcome(samples=7), "age": NodeOutcome(samples=0, notes=["nothing was found"])}
    text = markdown(record, outcomes, (answer,), matrix)
    assert gain(answer) == 2.0
    assert "| hfs | 15.00 | 30.00 | 2.00 |" in text
    assert "| det | box.ov.cpu0 | int8 | 0.9900 | 40.0 | 20.0 |" in text
    assert "| age | box.ov.cpu0 | the source | | | |" in text
    assert text.count("| det | int8 |") == 1  # that of another group is not this one's
    assert "- nothing was found" in text


def test_what_was_left_of_a_network() -> None:
    made = Made(source_digest="0" * 64, source_format="onnx", format="onnx", precision="int8")
    for changed, said in (
        ({}, ""),
        ({"kept": ("a", "b")}, ", 2 layers kept"),
        ({"kept": ("a",), "settings": {"pruned": "0.552"}}, ", 55% of the multiplications, 1 layers kept"),
        ({"settings": {"dropped-outputs": "contours"}}, ", without contours"),
    ):
        assert how(VariantRecord(model=model_ref("d"), made=made.model_copy(update=changed))) == said
