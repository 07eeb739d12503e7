"""Rules on what the parser knows by name: custom ops, plugins, forms of ops, names of axes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from onnxq.model.graph import Node, is_standard
from onnxq.model.qdq import is_qdq
from onnxq.passes.name_axes import shared_names, two_sizes
from onnxq.targets.fused import REMEDY, is_fused
from onnxq.trt.context import Context
from onnxq.trt.rule import SEEN, Place, Rule
from onnxq.trt.rules_ops import UNSUPPORTED, is_integer

# Ops of com.microsoft that the parser knows; it takes an op by its name, whatever its domain.
CONTRIB = frozenset({
    "Attention", "Gelu", "GroupQueryAttention", "LayerNormalization", "MatMulNBits",
    "MultiHeadAttention", "RotaryEmbedding", "SimplifiedLayerNormalization", "Trilu",
})  # fmt: skip
# Plugins of TensorRT's own library; TensorRT-RTX ships none of them.
PLUGINS = frozenset({
    "BatchTilePlugin_TRT", "BatchedNMSDynamic_TRT", "BatchedNMS_TRT", "Clip_TRT", "CoordConvAC",
    "CropAndResize", "CropAndResizeDynamic", "CustomEmbLayerNormPluginDynamic",
    "CustomFCPluginDynamic", "CustomGeluPluginDynamic", "CustomQKVToContextPluginDynamic",
    "CustomSkipLayerNormPluginDynamic", "DecodeBbox3DPlugin", "DetectionLayer_TRT",
    "DisentangledAttention_TRT", "EfficientNMS_Explicit_TF_TRT", "EfficientNMS_Implicit_TF_TRT",
    "EfficientNMS_ONNX_TRT", "EfficientNMS_TRT", "FlattenConcat_TRT", "GenerateDetection_TRT",
    "GridAnchorRect_TRT", "GridAnchor_TRT", "GroupNormalizationPlugin",
    "InstanceNormalization_TRT", "LReLU_TRT", "ModulatedDeformConv2d",
    "MultilevelCropAndResize_TRT", "MultilevelProposeROI_TRT",
    "MultiscaleDeformableAttnPlugin_TRT", "NMSDynamic_TRT", "NMS_TRT", "Normalize_TRT",
    "PillarScatterPlugin", "PriorBox_TRT", "Proposal", "ProposalDynamic", "ProposalLayer_TRT",
    "PyramidROIAlign_TRT", "ROIAlign_TRT", "RPROI_TRT", "Region_TRT", "Reorg_TRT",
    "ResizeNearest_TRT", "SpecialSlice_TRT", "VoxelGeneratorPlugin",
})  # fmt: skip


def custom_ops(ctx: Context) -> Iterator[Place]:
    """Ops that neither the parser nor TensorRT's plugin library knows by name."""
    for node in ctx.nodes:
        if _is_unknown(node) and node.op not in PLUGINS and not is_fused(node):
            yield node, f"'{node.op}' of the domain '{node.domain or ''}'"


def plugins(ctx: Context) -> Iterator[Place]:
    """Ops that are plugins of TensorRT's library; an exporter may give them any domain or none."""
    for node in ctx.nodes:
        if _is_unknown(node) and node.op in PLUGINS:
            yield node, f"'{node.op}' is a plugin"


def fused_ops(ctx: Context) -> Iterator[Place]:
    """What ONNX Runtime's optimizer wrote."""
    for node in ctx.nodes:
        if is_fused(node):
            yield node, f"'{node.op}' of the domain '{node.domain}'"


def _is_unknown(node: Node) -> bool:
    """Whether the parser has to look for a plugin."""
    if is_qdq(node) or is_integer(node) or node.op.startswith("TRT_"):
        return False
    known = onnx.defs.has(node.op) and (is_standard(node) or node.op not in UNSUPPORTED)
    return not known and node.op not in CONTRIB


def trained_batchnorms(ctx: Context) -> Iterator[Place]:
    """BatchNormalization with more outputs than one, or in training mode."""
    for node in ctx.nodes:
        if node.op != "BatchNormalization" or not is_standard(node):
            continue
        outputs = sum(not t.is_empty() for t in node.outputs)
        if outputs > 1 or node.attrs.get("training_mode", 0):
            yield node, f"{outputs} outputs{' in training mode' if outputs == 1 else ''}"


def nameless_axes(ctx: Context) -> Iterator[Place]:
    """Axes of inputs that share what is no name, or a name that has two sizes in a sample."""
    unlike = two_sizes(ctx.graph, ctx.samples)
    for name, axes in shared_names(ctx.graph).items():
        if not name.isidentifier() or name in unlike:
            yield None, f"{_list(axes)} are called '{name}'"


def shared_axes(ctx: Context) -> Iterator[Place]:
    """Axes of one input that share a name."""
    for name, axes in shared_names(ctx.graph).items():
        if name.isidentifier() and len({x for x, _ in axes}) < len(axes):
            yield None, f"{_list(axes)} are called '{name}'"


def _list(axes: list[tuple[str, int]]) -> str:
    return ", ".join(f"axis {axis} of '{name}'" for name, axis in axes)


RULES: tuple[Rule, ...] = (
    Rule(
        "custom-op", "refused", "The parser looks for a plugin of that name and finds none.",
        "TensorRT's ONNX parser; " + SEEN, "load the plugin library when building, or replace the "
        "op by ONNX ops", custom_ops, says=("Plugin not found", "No importer registered"),
    ),
    Rule(
        "plugin", "info", "TensorRT ships this plugin; TensorRT-RTX has none.",
        "TensorRT's plugin library; " + SEEN, "for TensorRT-RTX cut it off the graph, and run it "
        "behind the engine", plugins, rtx="refused",
        says=("Plugin not found", "No importer registered"),
    ),
    Rule(
        "optimized-op", "refused", "ONNX Runtime's optimizer wrote this op; TensorRT does not know "
        "it, and its weights stay float.", "ONNX Runtime's contrib operators; " + SEEN,
        REMEDY, fused_ops,
        says=("Plugin not found", "No importer registered"),
    ),
    Rule(
        "batchnorm-outputs", "refused",
        "The parser takes BatchNormalization at inference, with one output.", SEEN,
        "export the model for inference (PyTorch: model.eval())", trained_batchnorms,
        says=("outputs for BatchNormalization", "training_mode"),
    ),
    Rule(
        "axis-name", "refused", "TensorRT takes one name for one size, and '?' for a name.", SEEN,
        "give each axis its own name (--fix and onnxq quantize do)", nameless_axes,
        says=("Input dimensions with this name",),
    ),
    Rule(
        "shared-axis-name", "info", "TensorRT takes one name for one size, in one input too.", SEEN,
        "if their sizes differ give each its own name (--fix with --calib does)", shared_axes,
        says=("Input dimensions with this name",),
    ),
)  # fmt: skip
