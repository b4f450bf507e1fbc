"""The store of variants: what an older version left is ignored, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.optimizer.variant_folder import RECORD, VariantStore
from hams_shared.errors import BadInputError
from hams_shared.wire.variants import Made

MADE = Made(source_digest="0" * 64, source_format="onnx", format="onnx", precision="fp32")


def test_a_variant_of_an_older_version_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, file = VariantStore(tmp_path / "store"), tmp_path / "net.onnx"
    records = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        records.append(store.add("net", [file], MADE))
    old = store.folder / records[0].model.digest / RECORD
    old.write_text(old.read_text().replace('"settings": {}', '"settings": {"rectangular": "320×176"}'))
    assert store.of("0" * 64) == records[1:]
    assert "made by an older version, which called its form 'rectangular'" in caplog.text
    with pytest.raises(BadInputError, match="older version"):
        store.get(records[0].model.digest)
    file.write_bytes(b"one")
    assert store.add("net", [file], MADE) == records[0]  # made again
