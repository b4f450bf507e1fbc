"""The Open Inference Protocol (KServe v2): a group is a model, over HTTP and gRPC."""
