"""Masks as they travel: COCO's compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_shared.errors import MessageError
from hams_shared.wire.masks import decode, encode, in_frame, written
from support import oracles

KNOWN = {
    "nothing": (np.zeros((2, 3), bool), "6"),
    "everything": (np.ones((2, 3), bool), "06"),
    "one pixel": (np.array([[0, 0], [1, 0]], bool), "112"),
    "a long run": (np.array([[0] * 40 + [1] * 60], bool), "X1l1"),
    "a run that is shorter than the one before": (np.array([[0, 1, 1, 1, 0, 1, 1]], bool), "131O"),
}
"""By hand: 48 + five bits a character; the fourth number on is the difference to the one two before it."""


@pytest.mark.parametrize(("bits", "counts"), KNOWN.values(), ids=KNOWN)
def test_run_lengths_by_hand(bits: np.ndarray, counts: str) -> None:
    assert encode(bits, (5, 6)) == {"size": bits.shape, "counts": counts, "offset": (5, 6)}
    assert (decode(encode(bits, (0, 0))) == bits).all()


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60)
def test_any_mask_is_written_as_by_the_algorithm_of_coco(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.random((height, width)) < share
    if seed % 2:
        bits = np.repeat(bits, rng.integers(1, 40, height), axis=0)  # runs of more than one character
    mask = encode(bits, (0, 0))
    assert mask["counts"] == oracles.rle(bits)
    assert (decode(mask) == bits).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_writes_and_reads_the_same() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(50):
        bits = np.kron(rng.random(rng.integers(1, 9, 2)) < 0.5, np.ones(rng.integers(1, 60, 2))) > 0
        mask = encode(bits, (0, 0))
        theirs = coco.encode(np.asfortranarray(bits.astype(np.uint8)))
        assert mask["counts"].encode() == theirs["counts"]
        assert (coco.decode({"size": list(mask["size"]), "counts": mask["counts"].encode()}) == bits).all()


def test_a_mask_lies_in_its_frame_where_its_offset_says() -> None:
    mask = encode(np.ones((3, 4), bool), (-2, 5))
    whole = in_frame(mask, (10, 7))
    assert whole.sum() == 2 * 2
    assert whole[5:7, 0:2].all()
    assert not in_frame(encode(np.ones((3, 4), bool), (20, 0)), (10, 7)).any()


WRONG: dict[str, Any] = {
    "no map": {},
    "no size": {"counts": "6", "offset": [0, 0]},
    "another size": {"size": [2, 4], "counts": "6", "offset": [0, 0]},
    "no pixels": {"size": [0, 4], "counts": "0", "offset": [0, 0]},
    "no text": {"size": [2, 3], "counts": "", "offset": [0, 0]},
    "other letters": {"size": [2, 3], "counts": "\u00e4!", "offset": [0, 0]},
    "unfinished": {"size": [2, 3], "counts": "P", "offset": [0, 0]},
    "negative": {"size": [2, 3], "counts": "7O", "offset": [0, 0]},
    "endless": {"size": [2, 3], "counts": "o" * 40 + "0", "offset": [0, 0]},
    "no offset": {"size": [2, 3], "counts": "6"},
    "half an offset": {"size": [2, 3], "counts": "6", "offset": [0]},
    "larger than a frame": written(np.array([1 << 27]), (1 << 13, 1 << 14), (0, 0)),
    "a bomb": {"size": [1 << 20, 1 << 20], "counts": "6", "offset": [0, 0]},
}


@pytest.mark.parametrize("mask", WRONG.values(), ids=WRONG)
def test_what_is_no_mask_is_refused(mask: Any) -> None:
    with pytest.raises(MessageError, match="not a mask"):
        decode(mask)
    with pytest.raises(MessageError, match="not a mask"):
        in_frame(mask, (10, 7))
