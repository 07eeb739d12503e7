"""Recovering accuracy that quantization costs, without labels and without training."""
