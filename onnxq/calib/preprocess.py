"""From an image file to what a model reads: the steps before inference, as a value.

    decode -> resize -> (pixel * scale - mean) / std -> axes and type of the input

`PRESETS` are those of the field: `yolo` is Ultralytics' letterbox, `imagenet` is torchvision's
Resize, CenterCrop, ToTensor and Normalize. A YAML file has the fields of `Preprocess`, and may
begin with one of the presets:

    preset: imagenet
    size: [384, 384]
    resized: 384
"""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import DataError
from onnxq.yaml_text import from_yaml

Fit = Literal["letterbox", "crop", "stretch"]
Filter = Literal["opencv", "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Color = Literal["rgb", "bgr", "gray"]
Layout = Literal["auto", "nchw", "nhwc"]

CROPPED = 0.875  # of the shorter side, what ImageNet's crop keeps: 224 of 256


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes an input.

    fit: "letterbox" keeps all of the image and pads it; "crop" makes the shorter side `resized`
    long and takes the middle; "stretch" lets the sides change their ratio. size: (height, width),
    None for the input's own, or `dynamic` where it has none. resized: None for size / 0.875.
    filter: "opencv" is OpenCV's bilinear one, which reads two pixels an axis; the others are
    Pillow's. pad: the value around a letterboxed image, 0 to 255. color: order of the channels; an
    input of one channel is gray. exif: turn the image as its camera says. scale, mean, std:
    (pixel * scale - mean) / std, one value or one a channel; an input of type uint8 keeps pixels.
    layout: "auto" is read off the input's shape.
    """

    fit: Fit = "stretch"
    size: tuple[int, int] | None = None
    dynamic: tuple[int, int] | None = None
    resized: int | None = None
    filter: Filter = "bilinear"
    pad: int = 114
    color: Color = "rgb"
    exif: bool = False
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(
                    f"preprocess: {name} is {getattr(self, name)!r}; "
                    f"choose from {', '.join(choices)}"
                )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, 3):
                raise DataError(f"preprocess: {name} has {len(getattr(self, name))} values; "
                                "give one, or one for each of 3 channels")  # fmt: skip
        if not all(map(math.isfinite, (*self.mean, *self.std, self.scale))) or 0.0 in self.std:
            raise DataError("preprocess: scale, mean and std must be finite, and std not zero")
        sizes = [n for pair in (self.size, self.dynamic) for n in pair or ()]
        if any(n < 1 for n in (*sizes, *([self.resized] if self.resized is not None else []))):
            raise DataError("preprocess: sizes must be positive")

    def as_dict(self) -> dict[str, object]:
        """What is said of it in a manifest, and what a YAML file of it holds."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }


_CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(kind)
    for name, kind in get_type_hints(Preprocess).items()
    if get_args(kind) and isinstance(get_args(kind)[0], str)
}

PRESETS = {
    "yolo": Preprocess("letterbox", dynamic=(640, 640), filter="opencv", exif=True),
    "imagenet": Preprocess(
        "crop", dynamic=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
}


def preprocess_of(text: str) -> Preprocess:
    """The preset that `text` names, or what the YAML file of that name says; raises DataError."""
    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    if not path.is_file():
        raise DataError(f"--preprocess '{text}' is neither {' nor '.join(PRESETS)} nor a file")
    try:
        document = from_yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"'{path}' is not YAML of preprocessing: {e}") from e
    if not isinstance(document, dict):
        raise DataError(f"'{path}' is not a mapping of preprocessing, such as 'preset: imagenet'")
    return from_document(document, f"'{path}'")


def from_document(document: dict[str, Any], where: str) -> Preprocess:
    """The value of a mapping; raises DataError, which names `where`, for one that is none."""
    given = dict(document)
    preset = given.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise DataError(f"{where}: preset is {preset!r}; choose from {', '.join(PRESETS)}")
    names = [f.name for f in fields(Preprocess)]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1) or names
            raise DataError(f"{where} has '{name}', which preprocessing has not; did you mean "
                            f"{', '.join(near)}?")  # fmt: skip
    try:
        values = {name: _value(name, value) for name, value in given.items()}
    except (TypeError, ValueError) as e:
        raise DataError(f"{where}: {e}") from e
    return replace(PRESETS[preset] if preset else Preprocess(), **values)


def _value(name: str, value: Any) -> Any:
    """A value of YAML in the type of its field; raises ValueError."""
    if name in ("mean", "std"):
        return tuple(float(x) for x in (value if isinstance(value, list) else [value]))
    if name in ("size", "dynamic") and value is not None:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(type(n) is int for n in pair):
            raise ValueError(f"{name} is {value!r}; give [height, width]")
        return tuple(pair)
    if name == "scale":
        return float(value)
    if name in ("pad", "resized") and type(value) is not int:
        raise ValueError(f"{name} is {value!r}; give a whole number")
    if name == "exif" and type(value) is not bool:
        raise ValueError(f"exif is {value!r}; give true or false")
    return value


@dataclass(frozen=True)
class Shaped:
    """Preprocessing for one input: the size, channels, axes and type that it takes."""

    steps: Preprocess
    size: tuple[int, int]
    channels: int
    last: bool  # channels are the last axis
    dtype: np.dtype[Any]

    def __call__(self, pixels: Array) -> Array:
        """A resized image, uint8 of (height, width, channels), as the model reads it: one sample
        without its batch axis."""
        if self.steps.color == "bgr":
            pixels = pixels[..., ::-1]
        axes = (0, 1, 2) if self.last else (2, 0, 1)
        if self.dtype == np.uint8:
            return np.ascontiguousarray(pixels.transpose(axes))
        table = self._table()
        made = np.stack([table[c][pixels[..., c]] for c in range(pixels.shape[2])], -1)
        return np.ascontiguousarray(made.transpose(axes))

    def _table(self) -> Array:
        """What each of the 256 pixel values becomes, a row a channel; rounded once."""
        mean, std = (
            np.broadcast_to(np.asarray(x, np.float64), 3)[: self.channels]
            for x in (self.steps.mean, self.steps.std)
        )
        values = np.arange(256) * self.steps.scale
        return ((values - mean[:, None]) / std[:, None]).astype(self.dtype)


def shaped(steps: Preprocess, shape: tuple[int | None, ...] | None, dtype: np.dtype[Any]) -> Shaped:
    """`steps` for an input of `shape`, None for a dynamic axis; raises DataError where the input is
    no image, or has no size and `steps` names none."""
    shape = (None,) * 4 if shape is None else shape
    if len(shape) != 4:
        raise DataError(
            f"images are for an input of 4 axes, this one has {len(shape)}: "
            "give its data as arrays, .npy or .npz"
        )
    last = steps.layout == "nhwc"
    if steps.layout == "auto":
        last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    channels = shape[3 if last else 1] or (1 if steps.color == "gray" else 3)
    if channels not in (1, 3):
        raise DataError(
            f"the input has {channels} channels, in the layout {'NHWC' if last else 'NCHW'}, and "
            "an image has 1 or 3; say the layout in a preprocessing file"
        )
    own = shape[1:3] if last else shape[2:]
    wanted = steps.size or steps.dynamic or (None, None)
    height, width = (n or m for n, m in zip(own, wanted, strict=True))
    if height is None or width is None:
        raise DataError("the model leaves its size open; say 'size: [height, width]' in a "
                        "preprocessing file")  # fmt: skip
    if steps.size is not None and steps.size != (height, width):
        raise DataError(f"preprocess: size is {list(steps.size)} and the model's input takes "
                        f"{[height, width]}; leave size out")  # fmt: skip
    if dtype.kind != "f" and dtype != np.uint8:
        raise DataError(f"the input is {dtype}, and images are made float or uint8")
    return Shaped(steps, (height, width), channels, last, dtype)
