"""Which TensorRT is here: TensorRT, or TensorRT-RTX, which builds engines without a GPU.

pip install "onnxq[gpu]"   or   "onnxq[rtx]"
"""

from __future__ import annotations

import ctypes
import importlib
import os
from dataclasses import dataclass
from typing import Any

from onnxq.errors import OnnxqError, RuntimeMissing

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EXTRAS = {"tensorrt": "onnxq[gpu]", "tensorrt-rtx": "onnxq[rtx]"}
DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


@dataclass(frozen=True)
class Backend:
    """A TensorRT that imports: its name (a key of MODULES), Python module and version."""

    name: str
    module: Any
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX."""
        return self.name == "tensorrt-rtx"


def find_backend(name: str | None = None) -> Backend:
    """The TensorRT called `name`, or the first of MODULES that is installed.

    Raises OnnxqError for an unknown name, RuntimeMissing with the extra to install if none is here.
    """
    if name is not None and name not in MODULES:
        raise OnnxqError(f"unknown backend '{name}'; choose one of {', '.join(MODULES)}")
    for candidate in [name] if name else MODULES:
        try:
            module = importlib.import_module(MODULES[candidate])
        except (ImportError, OSError):  # OSError: the package is there, its libraries are not
            continue
        return Backend(candidate, module, str(module.__version__))
    if name:
        raise RuntimeMissing(f'{name} cannot be imported; pip install "{EXTRAS[name]}"')
    raise RuntimeMissing(
        'no TensorRT can be imported; pip install "onnxq[gpu]" for TensorRT, or "onnxq[rtx]" for '
        "TensorRT-RTX, which builds engines without a GPU"
    )


def has_gpu() -> bool:
    """Whether the CUDA driver is here and sees a device."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return False
    count = ctypes.c_int(0)
    ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return bool(ready and count.value > 0)
