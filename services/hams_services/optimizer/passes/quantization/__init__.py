"""INT8 by post-training quantisation: NNCF for OpenVINO, ONNX Runtime's quantizer (QDQ) for ONNX."""
