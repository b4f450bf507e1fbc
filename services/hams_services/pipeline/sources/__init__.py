"""Where frames come from; one file per kind of source. What a stream's `source` may be: docs/sources.md.

A source is blocking and belongs to one thread (:mod:`hams_services.pipeline.sources.reader`).
"""

from hams_services.pipeline.sources.base import Source
from hams_services.pipeline.sources.image import decode_image
from hams_services.pipeline.sources.opening import check_source, open_file, open_source

__all__ = ["Source", "check_source", "decode_image", "open_file", "open_source"]
