"""Measures the cells of the FPS matrix: one model alone on one device."""
