"""Where networks and sample media come from: sources, digests, cache."""
