"""Where a configuration runs models."""

from __future__ import annotations

from pathlib import Path

from onnxq.pipeline.config import Config
from onnxq.run.runtime import Runtime


def runtime_of(config: Config) -> Runtime:
    """Where this configuration runs models."""
    library = Path(config.ort_library) if config.ort_library else None
    return Runtime(config.provider, library, config.ort_extension)
