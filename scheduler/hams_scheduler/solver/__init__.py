"""Placement: instance, objective, strategies, and questions about placements. Pure, and usable alone."""
