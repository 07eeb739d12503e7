"""Learning roundings, scales and biases against the float model, with PyTorch (an extra)."""
