"""Loads the class that is checked."""

from __future__ import annotations

import importlib
from typing import Any

from hams_agents.faults import FAULTS, fault
from hams_shared.errors import BadInputError


def load_class(where: str) -> Any:
    """Return the class ``module:Class``.

    Raises:
        BadInputError: it cannot be imported.
    """
    module, colon, name = where.partition(":")
    if not colon:
        raise BadInputError(f"{where!r} is not MODULE:CLASS", "for example mypackage:Backend")
    try:
        return getattr(importlib.import_module(module), name)
    except FAULTS as error:
        text = fault(error, module.partition(".")[0])
        raise BadInputError(f"{where} cannot be imported: {text}", "install the package; try it in Python") from error
