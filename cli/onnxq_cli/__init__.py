"""The command line: a thin skin over `onnxq.api`."""
