"""What an engine really runs, read from its bytes: no GPU, nothing deserialized.

A TensorRT-RTX engine holds a plain-text listing:

    header {                         version = 5 ...  accelerators={sm89 }
    descriptors {                    tensor={ ... name="t" ... type=int8 }
    main {                           corrltn={ name="conv0" output={"t2" } input={"t" "w" ... }
                                         layers="[ONNX Layer: conv0][ONNX Layer: w_dq]" }

One line an operation: its input types say whether it runs in INT8, `layers` names the ONNX nodes
that went into it. The listing is not documented, so every version but those in KNOWN_VERSIONS
gives an engine that is not readable, and a node whose operation is not recognised is "unknown".
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Operand = tuple[str, int | None]  # type and bytes
Precision = Literal["int8", "fp8", "int4", "fp4", "fp16", "bf16", "fp32", "folded", "unknown"]

KNOWN_VERSIONS = (5,)
PRECISIONS: dict[str, Precision] = {
    "int8": "int8",
    "fp8_e4m3": "fp8",
    "int4": "int4",
    "fp4_e2m1": "fp4",
    "half": "fp16",
    "bf16": "bf16",
    "float": "fp32",
}
FLOAT_ALONE: tuple[set[Precision], ...] = ({"fp32"}, {"fp16"}, {"bf16"})
PRODUCTS = ("corrltn", "deconvolution", "fully_connected")
FUSED_PRODUCTS = ("Corr", "Fc", "_gemm_mha")  # in the names of compiled kernels
BITS = {"int4": 4, "fp4_e2m1": 4, "int8": 8, "uint8": 8, "bool": 8, "fp8_e4m3": 8}
BITS |= {"half": 16, "bf16": 16, "float": 32, "int32": 32, "int64": 64}
OPERAND = (
    r'\n  (?:sub_)?tensor=\{[^\n]*? dims=\{ ([^}]*)\}[^\n]*? name="([^"]+)"[^\n]* type=(\w+) \}'
)
LAYER = r'\[ONNX Layer: ([^\n]*?)\](?=["\[\x1f])'  # ASCII 31 between them
NOT_KERNELS = ("signal", "wait", "shape_call")  # stream synchronisation, shape arithmetic
MOVES = ("Move", "Tran", "Resh", "Conc", "Slic")  # how kernel names abbreviate data movement
QDQ = "(?:(?:Cast)?MulMinMaxRounCast|CastMul(?:Cast)?)+"  # a chain of Q and DQ, in their names


@dataclass(frozen=True)
class Kernel:
    """One operation of an engine.

    kind: what the listing calls it ("corrltn" is Conv, "function" a fused pointwise kernel).
    layers: names of the ONNX nodes in it. inputs, outputs: their types, as the listing has them.
    traffic: bytes that it reads and writes, weights included; None where a shape is dynamic.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    traffic: int | None

    @property
    def is_product(self) -> bool:
        """Whether it multiplies by weights: a convolution, a matrix product or fused attention."""
        compiled = self.kind in ("function", "runtime_fusion")
        return self.kind in PRODUCTS or (compiled and any(f in self.name for f in FUSED_PRODUCTS))

    @property
    def parts(self) -> tuple[str, ...]:
        """The abbreviated ops that the name of a compiled kernel lists; () for any other."""
        if not self.name.startswith("__myl_"):
            return ()
        return tuple(re.findall(r"[A-Z][a-z0-9]*", self.name.removeprefix("__myl_")))

    @property
    def moves(self) -> bool:
        """Whether it only moves data: a reformat, a transpose, a copy."""
        return bool(self.parts) and all(p in MOVES for p in self.parts)

    @property
    def quantizes(self) -> bool:
        """Whether it is a kernel of its own for Q/DQ, fused with nothing but data movement."""
        if self.parts and set(self.parts) <= {"Dyna", *MOVES}:  # quantization to FP4
            return "Dyna" in self.parts
        steps = "".join(p for p in self.parts if p not in MOVES)
        if steps == "MulCast":  # quantization to FP8, or the tail of a product
            return "fp8_e4m3" in self.outputs
        return re.fullmatch(QDQ, steps) is not None


@dataclass(frozen=True)
class Engine:
    """The kernels of an engine; none, and `reason` says why, where it cannot be read."""

    kernels: tuple[Kernel, ...] = ()
    accelerators: tuple[str, ...] = ()
    reason: str = ""

    @property
    def readable(self) -> bool:
        """Whether the listing was found and understood."""
        return not self.reason

    @property
    def quantize_kernels(self) -> int:
        """How many kernels only quantize or dequantize: Q/DQ that fused with nothing."""
        return sum(k.quantizes for k in self.kernels)

    @property
    def traffic(self) -> int | None:
        """Bytes that all kernels read and write; None where a shape is dynamic."""
        parts = [k.traffic for k in self.kernels]
        return None if None in parts else sum(p for p in parts if p is not None)

    @property
    def move_kernels(self) -> int:
        """How many kernels only move data: reformats at inputs, outputs and between layouts."""
        return sum(k.moves for k in self.kernels)


def load_engine(path: str | Path) -> Engine:
    """The kernels of the engine file at `path`, mapped, not loaded."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return read_engine(data)


def read_engine(engine: bytes | mmap.mmap) -> Engine:
    """The kernels of a serialized engine.

    With several profiles the first listing is read. An engine without a listing (TensorRT's, which
    compresses it) or of an unknown version comes back with `readable` False, never half read.
    """
    start = engine.find(b"header {\n  version = ")
    main = engine.find(b"\nmain {\n", start)
    end = engine.find(b"\n}\n", main)
    if min(start, main, end) < 0:
        return Engine(reason="it holds no plain-text listing (TensorRT-RTX engines do)")
    text = engine[start:end].decode("latin-1")
    head, body = text[: main - start], text[main - start :]
    version = int(re.match(r"header \{\n  version = (\d+)", head + " ")[1])  # type: ignore[index]
    if version not in KNOWN_VERSIONS:
        known = ", ".join(map(str, KNOWN_VERSIONS))
        return Engine(reason=f"its listing is version {version}; this onnxq reads {known}")
    operands = {name: (kind, _size(dims, kind)) for dims, name, kind in re.findall(OPERAND, head)}
    kernels = tuple(k for k in _operations(body, operands) if k.kind not in NOT_KERNELS)
    if not kernels:
        return Engine(reason="its listing has no operations")
    arch = re.search(r"\n  accelerators=\{([^}]*)\}", head)
    return Engine(kernels, tuple(arch[1].split()) if arch else ())


def _operations(body: str, operands: Mapping[str, Operand]) -> Iterable[Kernel]:
    starts = list(re.finditer(r"\n +(\w+)=\{ ", body))
    ends = [m.start() for m in starts[1:]] + [len(body)]
    for match, end in zip(starts, ends, strict=True):
        text = body[match.end() : end]
        name = re.match(r'name="?([^" ]*)"?', text)
        inputs = _operands(r"\binput(?:_args)?=\{([^}]*)\}", text, operands)
        outputs = _operands(r"\boutput(?:_args)?=\{([^}]*)\}", text, operands)
        sizes = [size for _, size in inputs + outputs]
        yield Kernel(
            match[1],
            name[1] if name else "",
            tuple(dict.fromkeys(re.findall(LAYER, text))),
            tuple(kind for kind, _ in inputs),
            tuple(kind for kind, _ in outputs),
            None if None in sizes else sum(s for s in sizes if s is not None),
        )


def _operands(pattern: str, text: str, operands: Mapping[str, Operand]) -> list[Operand]:
    found = re.search(pattern, text)
    names = re.findall(r'"([^"]+)"', found[1]) if found else []
    return [operands.get(name, ("?", None)) for name in names]


def _size(dims: str, kind: str) -> int | None:
    """Bytes of a tensor; None if a dimension is a name or the type is not known."""
    numbers = dims.split()
    if kind not in BITS or not all(n.isdecimal() for n in numbers):
        return None
    return math.prod(map(int, numbers)) * BITS[kind] // 8


def precision_of(engine: Engine, node: str) -> Precision:
    """What the weighted ONNX node `node` computes in: the input types of its product.

    A product that was compiled into pointwise kernels has a precision if all their inputs are of
    one float type. "folded" if no kernel carries its name, so that it was computed while building.
    "unknown" for an engine that cannot be read, and where the types do not tell or the node may
    be in a kernel without names.
    """
    if not engine.readable:
        return "unknown"
    carriers = [k for k in engine.kernels if node in k.layers]
    if not carriers:
        nameless = any(k.is_product and not k.layers for k in engine.kernels)
        return "unknown" if nameless else "folded"
    products = [k for k in carriers if k.is_product]
    if products:
        return _precision(products[0]) if len(products) == 1 else "unknown"
    types = {PRECISIONS.get(t, "unknown") for k in carriers for t in k.inputs}
    return types.pop() if types in FLOAT_ALONE else "unknown"


def _precision(kernel: Kernel) -> Precision:
    types = kernel.inputs if kernel.parts else kernel.inputs[:2]  # then come scales and biases
    if "int4" in types:  # weights alone: dequantized inside the kernel
        return "int4"
    if kernel.parts and kernel.parts[0] == "Cast":  # dequantizes first: computes in its output type
        types = kernel.outputs
    found = {PRECISIONS.get(t, "unknown") for t in types[:2]}
    return found.pop() if len(found) == 1 else "unknown"


def coverage(engine: Engine, nodes: Iterable[str]) -> dict[str, Precision]:
    """What each of `nodes` computes in, in the order given."""
    return {node: precision_of(engine, node) for node in nodes}
