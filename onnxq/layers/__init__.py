"""What TensorRT itself says of an engine: its layers, their times, and the ONNX nodes in them."""
