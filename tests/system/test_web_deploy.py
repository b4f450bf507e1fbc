"""The page's deploy and optimizer views as a person uses them: a real Chromium on a real `hams-ctl up`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.up import ROOT, Up, cores
from support.web import browser, violations
from world.test_web_deploy import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEXT = (ROOT / "examples" / "face.yaml").read_text()
WRONG = TEXT.replace("strategy: hfs", "stratgy: hfs")
LINE = WRONG.splitlines().index("stratgy: hfs") + 1


@pytest.fixture(scope="module")
def up(face_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("web"), *cores(), options=("--web", "127.0.0.1:0")) as system:
        yield system


def test_a_group_is_written_mended_deployed_and_drawn_on(up: Up, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny())
    (tmp_path / "face.yaml").write_text(WRONG)
    with browser(f"{up.page}#deploy") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        editor = page.get_by_role("textbox", name="Group file", exact=True)
        editor.wait_for()
        page.locator("#group-file").set_input_files(tmp_path / "face.yaml")
        mistake = page.get_by_role("button", name=f"Line {LINE}, column 1")
        mistake.wait_for()
        assert "did you mean strategy?" in page.locator(".findings").inner_text()
        assert page.locator(".cm-lintRange-error").count() == 1
        mistake.click()
        page.keyboard.press("End")
        for _ in range("stratgy: hfs".__len__()):
            page.keyboard.press("Backspace")
        page.keyboard.type("strategy: hfs")
        page.keyboard.press("Escape")
        page.get_by_text("No mistakes").wait_for()
        assert violations(page) == []

        page.locator("#network").set_input_files(tmp_path / "tiny.onnx")
        page.get_by_text("tiny is stored").first.wait_for(timeout=60_000)

        page.get_by_role("button", name="Draw on a picture…").click()
        page.locator(".canvas img[src]").wait_for(timeout=40_000)
        page.wait_for_function("document.querySelector('.canvas img').naturalWidth > 0")
        page.get_by_role("button", name="Draw a zone").click()
        box = page.locator(".canvas svg").bounding_box()
        assert box is not None
        for x, y in [(0.2, 0.2), (0.8, 0.2), (0.8, 0.7)]:
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        assert violations(page) == []
        page.get_by_role("button", name="Insert a zone").click()
        page.keyboard.press("ArrowRight")
        page.get_by_role("button", name="Put into the group file").click()
        page.get_by_text("No mistakes").wait_for()

        page.get_by_role("button", name="Deploy face").click()
        page.get_by_text("face serves").first.wait_for(timeout=180_000)
        text = page.evaluate("fetch('api/groups/face').then((answer) => answer.json())")["text"]
        assert re.search(r"zone: \[\[0\.(2|199|201)\d*, 0\.(2|199|201)\d*\], \[0\.8", text.replace("\n", " ")), text
        assert "zone-2" in text
        assert "face" in up.ctl("status")


def test_a_job_is_started_and_cancelled(up: Up) -> None:
    up.ctl("deploy", ROOT / "examples" / "face.yaml")  # this test may run alone: each may have a process of its own
    with browser(f"{up.page}#nco") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Optimize").click()
        page.get_by_role("button", name=re.compile("Cancel job")).click()
        page.locator("li .mark", has_text="cancelled").first.wait_for()
        assert violations(page) == []
