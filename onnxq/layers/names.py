"""Which ONNX nodes went into a layer, by the layer's name or its metadata.

    conv1.weight + QuantizeLinear_7 + Conv_9 + PWN(Clip_12)   nodes joined, a weight before its Q
    PWN(PWN(Sigmoid_5), Mul_6)                                elementwise nodes in one kernel
    Conv_1 || Conv_2                                          two nodes side by side in one kernel
    Reformatting CopyNode for Input Tensor 0 to Conv_9        a copy that TensorRT put before it
    {ForeignNode[first...last]}, __myl_...                    a range of nodes that is not listed
    [ONNX Layer: Conv_9]\x1f[ONNX Layer: Relu_10]             `Metadata`, from TensorRT 10 on

What a name does not say is not guessed: a layer of a range has no nodes unless its metadata has.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

COPY = re.compile(r"Reformatting CopyNode for (Input|Output) Tensor (\d+) to (.+)", re.DOTALL)
METADATA = re.compile(
    r"\[ONNX Layer: ((?:(?!\[ONNX Layer: )[^\x1e\x1f])*?)\]"
    r"(?=[\x1e\x1f\[]|[\s+|,;]*(?:\[ONNX Layer: |[\x1e\x1f]|$))"
)
OWN = re.compile(  # layers that TensorRT made itself
    r"\(Unnamed Layer\* \d+\)|(copied_)?(un)?squeeze_(node_)?after_|(re)?shape_(before|after)_"
    r"|\[trainStation\d*\]|\[HostToDeviceCopy|\[DeviceToShapeHostCopy|ONNXTRT_"
    r"|Reformatting CopyNode"
)
UNNAMED = "(no name "  # how the names begin that layers get where the file gives none
PROFILE = re.compile(r" \[profile \d+\]$")
CLONE = re.compile(r"(_clone_\d+|_copy_(input|output)| copy)$")
QDQ = re.compile(r"(?:^|[/_.])(?:Quantize|Dequantize)Linear(?:_\d+)?")
OP = re.compile(r"(?:^|[/_.:])[A-Z][A-Za-z0-9]+(?:_\d+)?$")  # `/model/Conv`, `Conv_12`
PAIR = ("(", ")")
SHORTEST = 3  # letters of a name that may be cut


@dataclass(frozen=True)
class Named:
    """What a layer's name says.

    nodes: in it, as far as they are listed. hidden: whether more nodes are in it than are listed.
    beside: nodes that it stands before or behind, for a copy that TensorRT put in.
    """

    nodes: tuple[str, ...] = ()
    hidden: bool = False
    beside: tuple[str, ...] = ()


def named(name: str, metadata: str = "", known: Collection[str] | None = None) -> Named:
    """What the name and the metadata of a layer say; only nodes that are `known`, where given."""
    name = PROFILE.sub("", name)
    if copy := COPY.fullmatch(name):
        return Named(beside=_kept(copy[3], known))
    if found := _listed(metadata):
        said = tuple(dict.fromkeys(n for n in map(_whole, found) if known is None or n in known))
        said = said or (_kept(name, known) if known is not None else ())
        return Named(said, hidden=not said)
    if "{ForeignNode[" in name or name.startswith(("__myl", "__mye", UNNAMED)):
        return Named(hidden=True)
    return Named(hidden=True) if known and _is_cut(name, known) else Named(_kept(name, known))


def numbered(number: int) -> str:
    """The name of the layer without one that has this number among its like."""
    return f"{UNNAMED}{number})"


def _is_cut(name: str, known: Collection[str]) -> bool:
    """Whether a name ends within the name of a node, as those of long layers do in some files."""
    last = list(_parts(name))[-1].removeprefix("PWN(")
    if last in known or len(last) < SHORTEST or OWN.match(last) or _is_weight(last):
        return False
    return _whole(last) not in known and any(node.startswith(last) for node in known)


def _listed(metadata: str) -> list[str]:
    """The nodes that a layer's metadata lists: each in brackets, or bare with 0x1e or 0x1f between;
    several in one pair of brackets are joined by ` + `."""
    if found := METADATA.findall(metadata):
        return [part for text in found for part in _split(text, (" + ",))]
    bare = re.split("[\x1e\x1f]", metadata)
    return [part for part in bare if part and not part.startswith("[")] if bare[1:] else []


def is_quantizer(node: str) -> bool:
    """Whether a node's name is that of a QuantizeLinear or DequantizeLinear."""
    return QDQ.search(node) is not None


def _kept(name: str, known: Collection[str] | None) -> tuple[str, ...]:
    parts = [_whole(part) for part in _parts(name) if part and not (
        OWN.match(part) or part.startswith("{ForeignNode["))]  # fmt: skip
    if known is not None:
        return tuple(dict.fromkeys(part for part in parts if part in known))
    # a part before a Q of its own, or one that names a parameter, is a weight and not a node
    kept = [
        part
        for i, part in enumerate(parts)
        if is_quantizer(part) or not (_is_weight(part) or _feeds_q(parts, i))
    ]
    return tuple(dict.fromkeys(kept))


def _feeds_q(parts: list[str], i: int) -> bool:
    """Whether a part that has no op in its name stands before a Q."""
    follows = i + 1 < len(parts) and is_quantizer(parts[i + 1])
    return follows and OP.search(parts[i]) is None


def _is_weight(part: str) -> bool:
    return re.search(r"(?:^|[._/])(weight|bias|kernel|gamma|beta)s?(?::\d+)?$", part) is not None


def _whole(part: str) -> str:
    return CLONE.sub("", part.strip())


def _parts(text: str) -> Iterator[str]:
    """The names that a fused name joins."""
    text = text.strip()
    pieces = list(_split(text, (" + ", " || ")))
    if len(pieces) > 1:
        for piece in pieces:
            yield from _parts(piece)
    elif text.startswith("PWN(") and text.endswith(")"):
        for piece in _split(text[4:-1], (", ",)):
            yield from _parts(piece)
    else:
        yield text


def _split(text: str, marks: tuple[str, ...]) -> Iterator[str]:
    """Pieces of a text between marks that stand in no parentheses; all marks where these do not
    match."""
    balanced = text.count("(") == text.count(")")
    depth = start = 0
    for found in re.finditer("|".join([*map(re.escape, marks), r"[()]"]), text):
        if found[0] in PAIR:
            depth += 1 if found[0] == "(" else -1
        elif depth <= 0 or not balanced:
            yield text[start : found.start()]
            start = found.end()
    yield text[start:]
