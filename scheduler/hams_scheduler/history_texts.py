"""How the history words a plan. Pure."""

from __future__ import annotations

from hams_shared.wire.messages.plan import Plan

PHRASES = 4
"""Most moves that a text tells; a count stands for the others."""


def plan_text(plan: Plan, before: Plan | None) -> str:
    """Return what a plan changes, and the predicted FPS."""
    changes = [*moves(plan, before), *networks(plan, before)]
    shown = changes if len(changes) <= PHRASES + 1 else [*changes[:PHRASES], f"{len(changes) - PHRASES} more changes"]
    fps = f"{plan.fps:.1f} FPS predicted"
    if before is not None and before.fps > 0:
        fps = f"{before.fps:.1f} → {fps}"
    if plan.unmet and plan.group.spec.target_fps:
        fps += f", below the target of {plan.group.spec.target_fps:g}"
    return f"plan {plan.epoch} of {plan.group.spec.name}: {'; '.join([*shown, fps])}"


def moves(plan: Plan, before: Plan | None) -> list[str]:
    """Return which nodes go where, those that go the same way together."""
    ways: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for node in plan.group.spec.depth_first():
        earlier = tuple(sorted(before.shares.get(node, {}))) if before is not None else ()
        places = tuple(sorted(plan.shares[node]))
        if places != earlier:
            ways.setdefault((earlier, places), []).append(node)
    return [_move(nodes, *way) for way, nodes in ways.items()]


def _move(nodes: list[str], earlier: tuple[str, ...], places: tuple[str, ...]) -> str:
    names, where = ", ".join(nodes), _list(places)
    if not earlier:
        return f"{names} on {where}"
    return f"{names} {'move' if len(nodes) > 1 else 'moves'} from {_list(earlier)} to {where}"


def networks(plan: Plan, before: Plan | None) -> list[str]:
    """Return which nodes that stay where they are get another network there."""
    if before is None:
        return []
    found: dict[str, list[str]] = {}
    for node in plan.group.spec.depth_first():
        for device in plan.shares[node].keys() & before.shares.get(node, {}).keys():
            if plan.model_on(node, device).digest != before.model_on(node, device).digest:
                choice = plan.variants.get(node, {}).get(device)
                found.setdefault(choice.label if choice is not None else "", []).append(node)
    return [_network(label, sorted(set(nodes))) for label, nodes in found.items()]


def _network(label: str, nodes: list[str]) -> str:
    verb = "take" if len(nodes) > 1 else "takes"
    return f"{', '.join(nodes)} {verb} {f'the variant {label}' if label else 'the network of the group file'}"


def _list(devices: tuple[str, ...]) -> str:
    return " and ".join(devices)
