"""How far two models are apart: metrics, parts of an output, spread, verdict."""
