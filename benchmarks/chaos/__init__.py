"""Real processes under many kinds of faults, and what must hold after each."""
