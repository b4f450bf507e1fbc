"""ONNX networks as graphs: read, run and changed."""
