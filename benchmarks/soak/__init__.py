"""Hours of serving with a deploy each minute: what grows."""
