"""Tracks: objects followed over the frames of one stream, by their boxes and by image motion."""
