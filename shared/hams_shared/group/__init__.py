"""The group file, and the checks of what people write in it."""
