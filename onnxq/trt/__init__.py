"""TensorRT: the only importers of polygraphy, tensorrt and tensorrt_rtx, inside functions."""
