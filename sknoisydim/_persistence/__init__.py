"""A fitted transformer at rest: in a pickle, in a file that is safe to load, in torch and ONNX."""
