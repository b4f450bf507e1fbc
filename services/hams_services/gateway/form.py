"""The image in a form (multipart/form-data), as browsers and `curl -F` send it. Pure."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hams_shared.errors import BadInputError

FORM = "multipart/form-data"
HINT = "send the image as a file of the form: curl -F image=@x.jpg"


class _Reader:
    """Keeps the content of the first part that is a file."""

    def __init__(self) -> None:
        self.found: list[bytes] | None = None
        self.ended = False
        self._reads = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""

    def on_part_begin(self) -> None:
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._reads = self.found is None and b"filename" in options
        if self._reads:
            self.found = []

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._reads and self.found is not None:
            self.found.append(data[start:end])

    def on_end(self) -> None:
        self.ended = True


def file_of(content_type: str, body: bytes) -> bytes:
    """Return the first file of a form. Raises BadInputError: it is no form, is cut off, or has no file."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise BadInputError("the form cannot be read: its Content-Type has no boundary", HINT)
    reader = _Reader()
    names = [name for name in dir(reader) if name.startswith("on_")]
    try:
        parser = MultipartParser(boundary, {name: getattr(reader, name) for name in names})  # type: ignore[arg-type]
        parser.write(body)
    except (FormParserError, ValueError) as error:
        raise BadInputError(f"the form cannot be read: {str(error)[:200]}", HINT) from None
    if not reader.ended:
        raise BadInputError("the form cannot be read: it is cut off", HINT)
    if reader.found is None:
        raise BadInputError("the form has no file", HINT)
    return b"".join(reader.found)
