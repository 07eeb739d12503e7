"""How the inputs of a weighted op are quantized, by the scheme that the op gets."""

from __future__ import annotations

from collections.abc import Mapping

from onnxq import fp4
from onnxq.errors import PlanError
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Graph, Node
from onnxq.model.patterns import select
from onnxq.plan import Plan
from onnxq.schemes import BLOCK_SIZES, SCHEMES, Scheme, scheme
from onnxq.spec import DTYPES, LEAST_OPSET, Edge, QuantSpec
from onnxq.targets.fp4_rules import specs_of
from onnxq.targets.options import PlanOptions, stored_weight, weight_input

BLOCK_OPSET, DEFAULT_BLOCK = 21, 64
BLOCKED = ("auto", "per-block")  # the --weights that may give blocks


def schemes_of(graph: Graph, options: PlanOptions) -> Mapping[str, Scheme]:
    """Node name -> its scheme, for the nodes that `options.scheme_for` names; the last one wins.

    Raises PlanError for a scheme that the target cannot run and for a pattern without a match.
    """
    found: dict[str, Scheme] = {}
    for pattern, chosen in assigned(options).items():
        found |= dict.fromkeys(select(graph, [pattern]), chosen)
    return found


def assigned(options: PlanOptions) -> dict[str, Scheme]:
    """Pattern -> scheme, of `options.scheme_for`; raises PlanError as `schemes_of` does."""
    found = {}
    for text in options.scheme_for:
        pattern, equals, name = text.rpartition("=")
        if not (pattern and equals and name):
            raise PlanError(f"--scheme-for '{text}': write PATTERN=SCHEME")
        found[pattern] = scheme(name, options.target)
    return found


def default_scheme(options: PlanOptions) -> Scheme:
    """The scheme of nodes that have none of their own.

    Raises PlanError for a wrong option, and for blocks that no scheme in use has.
    """
    if options.block_size is not None and options.block_size not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise PlanError(f"--block-size {options.block_size}: choose one of {sizes}")
    chosen = scheme(options.scheme, options.target)
    _refuse_idle_blocks(options, chosen)
    return chosen


def _refuse_idle_blocks(options: PlanOptions, chosen: Scheme) -> None:
    """Raises PlanError where blocks are asked for that no scheme in use has."""
    if options.block_size is None and options.weights != "per-block":
        return
    size = options.block_size
    asked = "--weights per-block" if size is None else f"--block-size {size}"
    if options.weights not in BLOCKED:
        raise PlanError(f"{asked} with --weights {options.weights}: leave one of them out")
    if chosen.instead is not None:
        raise PlanError(
            f"{asked}: scheme '{chosen.name}' has blocks of {fp4.BLOCK} and no others; leave it out"
        )
    if not any(s.blocks for s in (chosen, *assigned(options).values())):
        runs = [s for s in SCHEMES if options.target in SCHEMES[s].targets]
        able = ", ".join(s for s in runs if scheme(s, options.target).blocks)
        raise PlanError(
            f"{asked}: scheme '{chosen.name}' has no blocks on --target {options.target}; "
            f"choose one that has: {able}"
        )


def refuse_unused_blocks(options: PlanOptions, plan: Plan) -> None:
    """Raises PlanError where a block size was asked for and no weight of the plan has blocks."""
    size = options.block_size
    if size is not None and not any(spec.block_size for spec in plan.edges.values()):
        raise PlanError(
            f"--block-size {size}: no weight has blocks, which need a quantized MatMul or Gemm of "
            f"2-D weights that sums over a multiple of {BLOCK_SIZES[0]}, at least twice; leave it "
            "out"
        )


def opset_of(options: PlanOptions, plan: Plan | None = None) -> int:
    """The least opset that can hold what `plan` says, or without one the options."""
    if plan is not None:
        specs = plan.edges.values()
        blocks = any(s.block_size for s in specs)
        return max(BLOCK_OPSET if blocks else LEAST_OPSET, *(s.row.min_opset for s in specs), 0)
    used = [default_scheme(options), *assigned(options).values()]
    dtypes = {d for s in used for d in (s.weight, s.conv_weight, s.activation) if d}
    blocks = any(_blocked(s.weight, options) for s in used if s.blocks)
    return max(BLOCK_OPSET if blocks else LEAST_OPSET, *(DTYPES[d].min_opset for d in dtypes))


def inputs_of(node: Node, options: PlanOptions, scheme: Scheme) -> dict[Edge, QuantSpec]:
    """Every quantized input of a weighted op: activations per tensor, the weight per channel or
    per block; empty if the scheme is for weights alone and the node has none. A weight that is
    quantized already is left as it is."""
    weight = weight_input(node)
    if scheme.weight == "fp4" and stored_weight(node) is None:
        return {Edge(node.name, i): spec for i, spec in enumerate(specs_of(node))}
    edges = {}
    if scheme.activation is not None:
        activation, stored = QuantSpec(scheme.activation), stored_weight(node)
        edges = {
            Edge(node.name, i): activation
            for i, tensor in enumerate(node.inputs[:2])
            if i != weight and (stored is None or tensor is not stored.outputs[0])
        }
    if weight is not None:
        edges[Edge(node.name, weight)] = _weight_spec(node, weight, options, scheme)
    return dict(sorted(edges.items()))


def _weight_spec(node: Node, index: int, options: PlanOptions, scheme: Scheme) -> QuantSpec:
    convolves = node.op in CONVOLUTIONS
    dtype = scheme.conv_weight if convolves else scheme.weight
    axis = _channel_axis(node, index, options)
    if options.weights == "per-tensor" or axis is None or dtype == "fixed88":
        return QuantSpec(dtype)
    shape = node.inputs[index].shape
    if scheme.blocks and not convolves and len(shape) == 2 and _blocked(dtype, options):
        contracted = 1 - axis
        if size := _block_size(shape[contracted], options):
            return QuantSpec(dtype, "block", contracted, size)
    return QuantSpec(dtype, "channel", axis)


def _block_size(length: int, options: PlanOptions) -> int | None:
    """The largest block up to the one asked for that divides `length`, two blocks at least; None
    where there is none: TensorRT takes whole blocks, and fuses no weight of one block."""
    most = min(options.block_size or DEFAULT_BLOCK, length // 2)
    return next((s for s in reversed(BLOCK_SIZES) if s <= most and length % s == 0), None)


def _blocked(dtype: str, options: PlanOptions) -> bool:
    asked = options.block_size is not None or dtype == "int4"
    return options.weights == "per-block" or (options.weights == "auto" and asked)


def _channel_axis(node: Node, index: int, options: PlanOptions) -> int | None:
    geometry = geometry_of(node)
    if node.op in CONVOLUTIONS:
        whole = options.deconv == "per-channel" and geometry.groups == 1
        return geometry.outputs if node.op == "Conv" or whole else None
    if index == 0:  # a constant left operand: its columns are the contraction
        return None
    if node.op == "MatMul" and len(node.inputs[1].shape) != 2:
        return None  # ONNX Runtime's integer MatMul has no columns there
    return geometry.outputs % 2
