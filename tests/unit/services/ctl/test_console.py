"""hams-ctl prints names of files, addresses and recognised texts unchanged: they are no markup."""

from __future__ import annotations

import pytest

from hams_services.ctl.console import err, out
from hams_services.ctl.tables import plain_table

ODD = ("http://[fd00::1]:9565/metrics", "clips/[old]/x.mp4", "shots/[/x]/a.png", "plate [bold] AB:car:12", r"C:\[a]")


@pytest.mark.parametrize("text", ODD)
def test_brackets_and_colons_stay(text: str) -> None:
    table = plain_table("Title")
    table.add_column("source")
    table.add_column("seconds")
    table.add_row(text, text)
    for console in (out, err):
        with console.capture() as capture:
            console.print(text, soft_wrap=True)
            console.print(text, style="dim")
            console.print(table)
        assert capture.get().count(text) == 4
