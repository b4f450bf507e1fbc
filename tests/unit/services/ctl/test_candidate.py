"""How candidates are asked for and shown."""

from __future__ import annotations

import pytest
from rich.console import Console
from typer import BadParameter
from typer.testing import CliRunner

from hams_services.ctl.actions import candidate
from hams_services.ctl.app import app
from hams_services.ctl.options import share
from hams_shared.wire.messages.candidate import ArmView, CandidateStream, CandidateView, Quantiles

SEEN = CandidateView(
    group="face--candidate",
    of="face",
    mode="shadow",
    share=0.1,
    rule="agreement >= 0.95",
    after=500,
    promote="auto",
    state="running",
    frames=120,
    agreement=0.97,
    nodes={"age": 0.97, "face": 0.99},
    not_compared=("mood",),
    serving=ArmView(latency=Quantiles(p50_ms=10, p95_ms=20, p99_ms=30), work=Quantiles(p50_ms=5, p95_ms=6, p99_ms=7)),
    candidate=ArmView(latency=Quantiles(p50_ms=11, p95_ms=22, p99_ms=33)),
    streams=(CandidateStream(stream="door", chosen=130, skipped=9, frames=118, failed={"internal": 2}, unpaired=1),),
)


@pytest.mark.parametrize(("text", "expected"), [("10%", 0.1), ("2.5%", 0.025), ("0.1", 0.1), ("100%", 1.0), ("1", 1.0)])
def test_shares(text: str, expected: float) -> None:
    assert share(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "text"), [(0.1, "10%"), (0.025, "2.5%"), (0.125, "12.5%"), (0.004, "0.4%"), (1.0, "100%")]
)
def test_a_share_is_shown_as_it_was_asked_for(share: float, text: str) -> None:
    assert candidate.percent(share) == text
    seen = SEEN.model_copy(update={"share": share})
    assert f"shadow of {text} running" in candidate.in_a_line(seen)
    with candidate.out.capture() as capture:
        candidate.show(seen)
    assert f"shadow of {text} of the frames" in capture.get()


@pytest.mark.parametrize("text", ["0", "0%", "101%", "2", "-1%", "ten", "", "%", "nan", "inf%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="is not a share of the frames"):
        share(text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--shadow", "10%", "--canary", "10%"], "not both"),
        (["--rule", "agreement > 0.9"], "go with"),
        (["--promote", "auto"], "go with"),
        (["--shadow", "10%", "--promote", "always"], "neither no nor auto"),
        (["--shadow", "ten"], "not a share"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_done(options: list[str], text: str) -> None:
    result = CliRunner().invoke(app, ["deploy", "face.yaml", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize("width", [80, 120])
def test_a_candidate_is_shown(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    console = Console(width=width, record=True)
    monkeypatch.setattr(candidate, "out", console)
    candidate.show(SEEN)
    candidate.show(SEEN.model_copy(update={"state": "dropped", "text": "its rule was broken", "mode": "canary"}))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in (
        "candidate for face: shadow of 10% of the frames, running",
        "agreement 0.9700 (age 0.9700, face 0.9900)",
        "not compared, only one of the two has them: mood",
        "rule, after 500 frames: agreement >= 0.95 (kept: it is promoted; broken: dropped)",
        "serves 10.0 20.0 30.0 5.0 6.0 7.0",
        "door 130 9 118 2 (internal) 0 1",
        "canary of 10% of the frames, dropped",
        "its rule was broken",
    ):
        assert part in text


def test_a_candidate_in_a_line_of_status() -> None:
    assert candidate.in_a_line(SEEN) == (
        "face: shadow of 10% running: 120 frames, agreement 0.970, p95 22 against 20 ms"
    )
    waits = SEEN.model_copy(update={"state": "waiting", "text": "it is not placed", "agreement": None, "frames": 0})
    assert candidate.in_a_line(waits) == "face: shadow of 10% waiting (it is not placed): 0 frames"
