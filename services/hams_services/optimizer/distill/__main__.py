"""One training run: ``python -m hams_services.optimizer.distill REQUEST.json [LIMITS]``.

It sets itself the limits (:class:`hams_services.optimizer.sandbox.limits.Limits` as JSON) before it reads any network.

Says a line of JSON after each epoch, and last ``{"result": …}`` or ``{"error": …}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hams_services.optimizer.sandbox.child import as_job_error
from hams_services.optimizer.sandbox.limits import Limits, apply
from hams_shared.errors import BadInputError, HamsError


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> int:
    """Entry point."""
    try:
        try:
            from hams_services.optimizer.distill.run import run
        except ModuleNotFoundError as error:
            raise BadInputError(f"training needs {error.name}", 'pip install "hams[train]"') from None
        from hams_services.optimizer.distill.request import TrainRequest

        request = TrainRequest.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
        if len(sys.argv) > 2:
            apply(Limits(**json.loads(sys.argv[2])), request.folder)
        _say({"result": run(request, _say).model_dump(mode="json")})
    except Exception as error:
        _say({"error": (error if isinstance(error, HamsError) else as_job_error(error)).to_wire()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
