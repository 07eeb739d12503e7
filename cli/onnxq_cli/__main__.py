"""`python -m onnxq_cli`."""

from onnxq_cli.main import main

main()
