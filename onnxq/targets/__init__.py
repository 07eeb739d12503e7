"""Targets: one table of placement rules each; deciding where to quantize, never doing it."""
