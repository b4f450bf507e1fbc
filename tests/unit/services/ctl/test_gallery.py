"""What `hams-ctl gallery` prints, and what it does not take."""

from __future__ import annotations

import pytest
from rich.console import Console
from typer import BadParameter
from typer.testing import CliRunner

from hams_services.ctl.actions.gallery import gallery_table
from hams_services.ctl.app import app
from hams_services.ctl.commands.gallery import seconds
from hams_shared.wire.messages.gallery import GalleryView, Identity

NOW = 1.8e9


def view(**more: object) -> GalleryView:
    names = ("", "Anna-Katharina von Hohenfels [2]", "Bo", "")
    ages = (5, 130, 7300, 40 * 86_400)
    known = tuple(
        Identity(identity=i * 37, name=names[i], since=NOW - 41 * 86_400, seen=NOW - ages[i]) for i in range(4)
    )
    return GalleryView.model_validate({"node": "who", "network": "ab" * 32, "count": 4, "identities": known, **more})


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_console_and_cuts_no_word(width: int) -> None:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(gallery_table(view(), NOW))
    title, head, *lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width
    assert (title, head.split()[:2]) == ("Identities of who", ["identity", "name"])
    assert len(lines) == (5 if width == 80 else 4)  # the long name takes two
    assert "just now" in lines[0]
    assert "40 d ago" in lines[-1]
    words = " ".join(lines).split()
    assert {"111", "Anna-Katharina", "Hohenfels", "[2]"} <= set(words)


def test_what_is_set_aside_says_so() -> None:
    assert gallery_table(view(aside=True), NOW).title == "Identities of who, set aside: of network abababababab"


@pytest.mark.parametrize(
    ("text", "age"), [("30d", 2_592_000), ("1.5h", 5400), ("90m", 5400), ("45s", 45), (None, None)]
)
def test_ages(text: str | None, age: float | None) -> None:
    assert seconds(text) == age


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1 day", "1e3d", "1w", ""])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(BadParameter, match="is no age: 30d"):
        seconds(text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("forget face", "give one of IDENTITY, NAME, --older-than and --all"),
        ("forget face 3 --all", "give one of"),
        ("forget face Anna --older-than 30d", "give one of"),
        ("forget face --older-than soon", "'soon' is no age"),
        ("name face Anna 3", "Invalid value for 'identity'"),
        (f"name face 3 {'a' * 65}", "64 characters"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_asked(words: str, text: str) -> None:
    done = CliRunner().invoke(app, ["gallery", *words.split()], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert text in done.output
