"""The steps of `quantize`, from values to values, in the order in which they happen."""
