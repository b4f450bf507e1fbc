"""Plans an instance from a file, without a broker; `hams-ctl plan --instance` calls it in a child process.

The file has the offline JSON format of :mod:`hams_scheduler.solver.instance_json`; `hams-ctl matrix --json` prints it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hams_scheduler.solver import instance_json
from hams_scheduler.solver.instance import Instance, InvalidInstanceError, NoPlacementError
from hams_scheduler.solver.losses import each_removed
from hams_scheduler.solver.strategies.registry import names, solve
from hams_scheduler.solver.survive import survive
from hams_scheduler.solver.whatif import EACH, apply, max_streams
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
    keep: float | None = None,
    reserve: bool = False,
) -> list[dict[str, Any]]:
    """Plan the instance described by `data` with each strategy.

    `keep`: place instead so that after the loss of any one device every group keeps this part of its target, with
    memory for all fallbacks at once if `reserve`. The change ``remove:each`` adds the plan without each device.

    Raises:
        BadInputError: the instance, a strategy or a change is wrong.
        InfeasibleError: some model fits nowhere; all such are named.
    """
    try:
        instance = instance_json.read(data)
        if objective:
            instance = instance.replace(objective=objective)
        for change in changes:
            instance = instance if change == EACH else apply(instance, change, _profile(change))
        if keep is not None:
            result = [_surviving(instance, keep, reserve, time_limit_s)]
        else:
            chosen = names() if strategies == ("all",) else strategies
            result = [_planned(instance, name, time_limit_s, EACH in changes) for name in chosen]
        if stream_fps is not None:
            for answer in result:
                answer["max_streams"] = max_streams(answer["fps"], stream_fps)
        return result
    except InvalidInstanceError as error:
        raise errors.BadInputError(error.text, "see docs/scheduling.md") from None
    except NoPlacementError as error:
        raise errors.InfeasibleError(error.text) from None


def _planned(instance: Instance, strategy: str, time_limit_s: float, each_loss: bool) -> dict[str, Any]:
    """What one strategy does, and without each device if `each_loss`."""
    placement = solve(instance, strategy, time_limit_s=time_limit_s, bounds=True)
    if not each_loss:
        return placement.to_dict()
    losses = each_removed(instance, placement, lambda left: solve(left, strategy, time_limit_s=time_limit_s))
    return placement.to_dict() | {"losses": [loss.to_dict() for loss in losses]}


def _surviving(instance: Instance, keep: float, reserve: bool, time_limit_s: float) -> dict[str, Any]:
    """The placement that survives, with what each loss leaves."""
    found = survive(instance, keep=keep, reserve=reserve, time_limit_s=time_limit_s)
    survival = found.to_dict()
    return found.placement.to_dict() | {"losses": survival.pop("losses"), "survival": survival}


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
