"""What is said where torch is not installed."""

from __future__ import annotations

from onnxq.errors import RuntimeMissing


def require() -> None:
    """Raises RuntimeMissing where torch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise RuntimeMissing('finetune needs torch; pip install "onnxq[finetune]"') from e
