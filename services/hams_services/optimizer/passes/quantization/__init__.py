"""INT8 by post-training quantisation: NNCF for OpenVINO, ONNX Runtime's own quantiser (QDQ) for ONNX."""
