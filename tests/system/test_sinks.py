"""Results and frames written somewhere by `hams-ctl sink`, in processes of their own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import pytest

from support.grey import LENGTH, group_file, video
from support.ports import free_port
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture
def grey(tmp_path: Path) -> Iterator[Up]:
    """A group that plays the grey video in a loop."""
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="live", loop=True))
        yield up


def test_a_video_crops_and_lines(grey: Up, tmp_path: Path) -> None:
    movie, folder, lines = tmp_path / "out" / "seen.mp4", tmp_path / "crops", tmp_path / "results.jsonl"
    assert str(movie) in grey.ctl("sink", "video", "grey", movie, "--count", "20")
    with av.open(str(movie)) as file:
        times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    assert len(times) == len(set(times)) == 20
    assert [time * 25 for time in times] == pytest.approx([round(time * 25) for time in times], abs=0.01)

    assert "5 pictures" in grey.ctl("sink", "crops", "grey", folder, "--count", "5", "--label", "frame")
    pictures = sorted((folder / "s0").glob("*-0-frame.jpg"))
    assert len(pictures) == 5
    for path in pictures:
        image = cv2.imread(str(path))
        assert image is not None
        number = int(path.name.split("-")[1]) % LENGTH
        assert abs(float(image.mean()) - number * 4) < 3  # the picture is that of the result

    for _ in range(2):
        grey.ctl("sink", "jsonl", "grey", lines, "--count", "3")
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(told) == 6
    assert all(one["objects"][0]["light"]["value"] == pytest.approx(one["frame"] % LENGTH * 4, abs=2) for one in told)
    assert "not deployed" in grey.ctl("sink", "video", "nobody", movie, code=5)
    assert "ends in .mp4" in grey.ctl("sink", "video", "grey", tmp_path / "x.txt", "--count", "1", code=2)


def test_live_on_a_page_until_ctrl_c(grey: Up) -> None:
    address = f"127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "hams_services.ctl", "sink", "mjpeg", "grey", "--listen", address]
    with subprocess.Popen(argv, env={**grey.env, "HAMS_NATS_URL": grey.url}, stdout=subprocess.PIPE, text=True) as sink:

        def listed() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/", timeout=5) as page:
                    return b'src="./s0"' in page.read()
            except OSError:
                return False

        until_sync(listed, 30, "the stream on the page")
        with av.open(f"http://{address}/s0", format="mpjpeg", timeout=30) as page:
            assert len(list(itertools.islice(page.decode(video=0), 5))) == 5
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{address}/nothing", timeout=60)
        sink.send_signal(signal.SIGINT)
        assert sink.wait(60) == 0
