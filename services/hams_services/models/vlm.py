"""Vision language models: a folder of files as OpenVINO GenAI reads it, sent to agents as one zip file.

The zip file is the same, byte for byte, wherever it is made of the same files: names in order, no times, not
compressed (weights do not compress). So its SHA-256 names the model by its content.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path, PurePosixPath

from hams_services.models.files import MAX_BYTES
from hams_shared.errors import ModelError
from hams_shared.runtime.zips import check_zip

MAIN = "openvino_language_model.xml"
"""A folder, or a zip file, with this one at its top is such a model."""
REQUIRED = (
    MAIN,
    "openvino_text_embeddings_model.xml",
    "openvino_vision_embeddings_model.xml",
    "openvino_tokenizer.xml",
    "openvino_detokenizer.xml",
    "config.json",
)
"""Each ``.xml`` with its ``.bin``."""
SUFFIXES = frozenset({".xml", ".bin", ".json", ".jinja", ".txt", ".model"})
"""Of the files that are sent; others, such as pictures for a model's page, are left out."""
HINT = "export it with `optimum-cli export openvino --model NAME FOLDER`"
_TIME = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o100644 << 16


def is_vlm(path: Path) -> bool:
    """Whether `path` is a folder, or a zip file, of a vision language model. Raises ModelError: a damaged zip file."""
    if path.is_dir():
        return (path / MAIN).is_file()
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return MAIN in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ModelError(f"{path.name} is a damaged zip file: {error}", "fetch it again") from None


def packed(path: Path) -> bytes:
    """Return the zip file of the model in the folder or zip file `path`.

    Raises:
        ModelError: a file is missing, or all are larger than 4 GiB together; a zip file is damaged, or hostile.
    """
    if path.is_dir():
        return _zip(path, {one.name: one for one in path.iterdir() if _sent(one.name) and one.is_file()})
    check_zip(path, MAX_BYTES)
    with zipfile.ZipFile(path) as archive:
        return _zip(path, {name: zipfile.Path(archive, name) for name in archive.namelist() if _sent(name)})


def _sent(name: str) -> bool:
    return "/" not in name and not name.startswith(".") and PurePosixPath(name).suffix in SUFFIXES


def _zip(path: Path, files: dict[str, Path] | dict[str, zipfile.Path]) -> bytes:
    weights = [f"{name.removesuffix('.xml')}.bin" for name in REQUIRED if name.endswith(".xml")]
    missing = [name for name in (*REQUIRED, *weights) if name not in files]
    if missing:
        raise ModelError(f"{path.name} is no whole vision language model: it lacks {', '.join(missing)}", HINT)
    size = sum(one.stat().st_size for one in files.values() if isinstance(one, Path))
    if size > MAX_BYTES:
        raise ModelError(f"the files in {path.name} are larger than {MAX_BYTES >> 30} GiB", "take a smaller model")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = _READABLE
            archive.writestr(entry, files[name].read_bytes())
    return made.getvalue()
