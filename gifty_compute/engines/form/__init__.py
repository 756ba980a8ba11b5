"""The ONNX form of the packaged model: its file, written anew as a directory that onnxruntime reads."""
