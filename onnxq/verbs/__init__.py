"""What a command does in several steps, as a function each; `onnxq.api` has them all.

They import what they need when they are called: most runs need few of them.
"""
