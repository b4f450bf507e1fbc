"""Crop-input: networks without the letterbox padding of their images."""
