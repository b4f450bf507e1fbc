"""How well the first networks of the example groups find things: python -m benchmarks.detectors."""
