"""Plans an instance from a file, without a broker; `hams-ctl plan --instance` calls it in a child process.

The file has the offline JSON format of :mod:`hams_scheduler.solver.instance_json`; `hams-ctl matrix --json` prints it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hams_scheduler.solver import instance_json
from hams_scheduler.solver.instance import InvalidInstanceError, NoPlacementError
from hams_scheduler.solver.strategies.registry import names, solve
from hams_scheduler.solver.whatif import apply, max_streams
from hams_shared import errors
from hams_shared.group import strict_yaml


def plan(instance: str, strategies: list[str], what_if: list[str], **options: Any) -> list[dict[str, Any]]:
    """Plan the instance in the JSON file `instance`; `options` and errors as for :func:`answers`."""
    return answers(read(Path(instance)), tuple(strategies), changes=tuple(what_if), **options)


def answers(
    data: Any,
    strategies: tuple[str, ...],
    time_limit_s: float,
    changes: tuple[str, ...] = (),
    stream_fps: float | None = None,
    objective: str | None = None,
) -> list[dict[str, Any]]:
    """Plan the instance described by `data` with each strategy.

    Raises:
        BadInputError: the instance, a strategy or a change is wrong.
        InfeasibleError: some model fits nowhere; all such are named.
    """
    try:
        instance = instance_json.read(data)
        if objective:
            instance = instance.replace(objective=objective)
        for change in changes:
            instance = apply(instance, change, _profile(change))
        chosen = names() if strategies == ("all",) else strategies
        found = [solve(instance, name, time_limit_s=time_limit_s) for name in chosen]
        result = [placement.to_dict() for placement in found]
        if stream_fps is not None:
            for answer in result:
                answer["max_streams"] = max_streams(answer["fps"], stream_fps)
        return result
    except InvalidInstanceError as error:
        raise errors.BadInputError(error.text, "see docs/scheduling.md") from None
    except NoPlacementError as error:
        raise errors.InfeasibleError(error.text) from None


def _profile(change: str) -> dict[str, Any]:
    """The content of the profile that ``add:FILE`` names, if it is a file."""
    verb, _, name = change.partition(":")
    path = Path(name)
    if verb != "add" or path.suffix not in (".yaml", ".yml", ".json"):
        return {}
    try:
        content = strict_yaml.load(path.read_text(encoding="utf-8")).data
    except OSError as error:
        raise errors.BadInputError(f"cannot read {path}: {error.strerror}") from None
    except (strict_yaml.StrictYamlError, UnicodeDecodeError) as error:
        raise errors.BadInputError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise errors.BadInputError(f"{path} is not a device profile: it has no name and fps")
    return {name: content}


def read(path: Path) -> Any:
    """Read a JSON file. Raises BadInputError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise errors.BadInputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise errors.BadInputError(f"{path} is not JSON: {error}") from None
