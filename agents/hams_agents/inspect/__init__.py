"""What is in a network file: reads it, runs it once, and tells which node would serve it."""
