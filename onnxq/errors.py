"""What can go wrong in a way the user can mend.

Every message says what, where and how: the command line prints it as one line and exits with 2.
"""

from __future__ import annotations


class OnnxqError(Exception):
    """A mistake in the input that the user can fix; the message says how."""


class ModelError(OnnxqError):
    """The model cannot be read, or cannot be quantized as it is."""


class CannotRun(ModelError):
    """ONNX Runtime cannot open or run the model."""


class DataError(OnnxqError):
    """The calibration data cannot be read, or does not fit the model."""


class PlanError(OnnxqError):
    """A plan, a pattern or an option does not fit the model or the target."""


class WorkerError(OnnxqError):
    """A worker of an executor cannot do its part, or was lost."""


class RuntimeMissing(OnnxqError):
    """A package that an extra installs is not there; the message names the extra."""
