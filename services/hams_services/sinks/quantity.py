"""Numbers with their unit, written alike in images, `results`, `infer` and `tap`. Pure."""

from __future__ import annotations

UNITS = {"years": "y", "degrees": "°", "percent": "%"}
"""Short forms of units."""
WHOLE = frozenset({"years", "percent"})
"""Units of numbers that are rounded to whole ones."""


def quantity(value: float, unit: str | None = None) -> str:
    """Return a finite number with its unit: ``26 y``, ``0.123 m/s``, ``18 °``.

    Ages and percentages are whole; other numbers have three digits, or none after the point from 10 on.
    """
    digits = f"{value:.0f}" if abs(value) >= 10 or unit in WHOLE else f"{value:.3g}"
    digits = "0" if digits == "-0" else digits
    return f"{digits} {UNITS.get(unit, unit)}" if unit else digits
