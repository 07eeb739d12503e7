"""Made-up graphs of the ops that are quantized: prepared they compute what they did, quantized they
compute what `numerics` says, at every Q/DQ and bit for bit."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from onnxq import api, numerics
from onnxq.errors import PlanError
from onnxq.model.graph import constant_of, from_proto, node_by_name, producer, to_proto
from onnxq.passes.bias_room import with_room
from onnxq.pipeline.config import Config
from onnxq.spec import Edge
from onnxq.targets.options import PlanOptions

sys.path.insert(0, str(Path(__file__).parent))  # for the strategy beside this file
from generated import generated, with_odd_outputs

EXAMPLES = int(os.environ.get("ONNXQ_EXAMPLES", "0"))  # 0: few, the same each time
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PROPERTY = settings(
    max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, suppress_health_check=SLOW
)
OPTIONS = st.builds(
    PlanOptions,
    min_channels=st.just(1),
    target=st.sampled_from(["tensorrt", "onnxruntime"]),
    deconv=st.sampled_from(["float", "per-tensor", "per-channel"]),
    concat=st.sampled_from(["auto", "share", "requant"]),
    weights=st.sampled_from(["auto", "per-tensor"]),
)


def run(model, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options,
                                   providers=["CPUExecutionProvider"])  # fmt: skip
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def checked(model, outputs):
    """A model passes `onnx.checker`, which wants a name and ranks: those of what it computes."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    named.graph.name = named.graph.name or "generated"
    for info in (*named.graph.input, *named.graph.output):
        if not info.type.tensor_type.HasField("shape"):
            rank = outputs[info.name].ndim
            info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, 1, [None] * rank))
    onnx.checker.check_model(named, full_check=True)


def originally(case):
    """What the model computes as it is. One that ONNX Runtime does not run is no example: a shape
    that is not true stands where none can be inferred."""
    try:
        return run(case.model, case.feed)
    except Exception:  # ONNX Runtime's exceptions share no base class
        return reject()


def saved(case, folder):
    path, data = Path(folder) / "model.onnx", Path(folder) / "data.npy"
    onnx.save(case.model, path)
    np.save(data, case.samples)
    return path, data


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, ref in before.items():
        x = after[name]
        assert (x.shape, x.dtype) == (ref.shape, ref.dtype)
        # float32 sums of up to a few hundred terms in another order, in a chain of up to some 30
        # ops that each pass an error on about as large as it was: 30 x 300 x 2^-24 of the largest
        tolerance = 5e-4 * max(np.abs(ref).max(initial=0.0), 1e-3)
        np.testing.assert_allclose(x, ref, rtol=0.0, atol=tolerance, err_msg=name)


@PROPERTY
@given(generated())
def test_prepare_keeps_the_numbers(case):
    before = originally(case)
    with tempfile.TemporaryDirectory() as folder:
        path, _ = saved(case, folder)
        model = to_proto(api.prepare(path).graph)
    after = run(model, case.feed)
    checked(model, {**after, **case.feed})
    assert_same(before, after)


@PROPERTY
@given(generated(), OPTIONS)
def test_quantize_gives_a_valid_model_that_computes_what_numerics_says(case, options):
    config = Config(placement=options, recover="none", workers=1, check_samples=1)
    originally(case)
    with tempfile.TemporaryDirectory() as folder:
        path, data = saved(case, folder)
        try:
            result = api.quantize(path, [str(data)], config)
        except PlanError as e:
            if "nothing to quantize" not in str(e):
                raise
            return
        source = api.prepare(path, config)
    model = to_proto(result.graph)
    outputs = run(model, case.feed)
    checked(model, {**outputs, **case.feed})
    assert all(np.isfinite(x).all() for x in outputs.values())
    assert_weights_are_rounded(source.graph, result)
    assert_activations_are_rounded(model, result, case.feed)
    assert_the_reference_agrees(case, model)


@settings(PROPERTY, max_examples=EXAMPLES or 8)
@given(generated(steps=8), OPTIONS)
def test_every_output_is_compared_by_what_it_is_or_left_out_by_name(case, options):
    case = with_odd_outputs(case)
    assume(case.model.graph.output[0].name and run(case.model, case.feed)["half"].size)
    config = Config(placement=options, recover="bias", workers=1, check_samples=1)
    with tempfile.TemporaryDirectory() as folder:
        path, data = saved(case, folder)
        try:
            found = api.quantize(path, [str(data)], config)
        except PlanError as e:
            if "nothing to quantize" not in str(e):
                raise
            return
    agreement = found.agreement
    names = [o.name for o in case.model.graph.output]
    assert sorted([*agreement, *agreement.exact, *agreement.left_out]) == sorted(names)
    assert list(agreement.exact) == ["class"]
    assert "infinite or NaN in both" in agreement.left_out["masked"]
    half = agreement["half"]
    assert half.alike == half.count > 0
    for figures in agreement.values():
        assert not any(math.isnan(x) for x in figures.as_dict().values())
    for done in found.manifest["recovered"]:
        assert "nan" not in str(done)


def assert_weights_are_rounded(graph, result):
    """Every weight of the plan is dequantized from the codes that `numerics` makes of it."""
    before, after = node_by_name(graph), node_by_name(result.graph)
    for edge, spec in result.plan.edges.items():
        weight = constant_of(before[edge.node].inputs[edge.input])
        if weight is None:
            continue
        dequantize = producer(after[edge.node].inputs[edge.input])
        codes, scale = (constant_of(t) for t in dequantize.inputs[:2])
        expected = numerics.scale_of(numerics.amax_of(weight, spec), spec)
        if edge.input == 1 and Edge(edge.node, 0) in result.plan.edges:
            x = producer(after[edge.node].inputs[0])
            expected = with_room(expected, before[edge.node], constant_of(x.inputs[1]))
        np.testing.assert_array_equal(scale, expected)
        np.testing.assert_array_equal(codes, numerics.quantize(weight, expected, spec))


def assert_activations_are_rounded(model, result, feed):
    """What comes out of every Q/DQ is what `numerics` makes of what goes in, bit for bit."""
    specs = {}
    nodes = node_by_name(result.graph)
    for edge, spec in result.plan.edges.items():
        dequantize = producer(nodes[edge.node].inputs[edge.input])
        if dequantize is not None and dequantize.op == "DequantizeLinear":
            specs[dequantize.outputs[0].name] = spec
    pairs = {}
    for node in from_proto(model).nodes:
        before = producer(node.inputs[0]) if node.op == "DequantizeLinear" else None
        if before is not None and before.op == "QuantizeLinear":
            pairs[node.outputs[0].name] = [constant_of(t) for t in before.inputs[1:]]
            pairs[node.outputs[0].name].insert(0, before.inputs[0].name)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {o.name for o in model.graph.output} | {i.name for i in model.graph.input}
    names = {name for out, (x, *_) in pairs.items() for name in (out, x)} - known
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in sorted(names))
    values = {**feed, **run(opened, feed)}
    scales = {numerics.grid_of(limit, spec)[0].item() for limit in result.ranges.limits.values()
              for spec in set(specs.values())}  # fmt: skip
    for out, (x, scale, zero) in pairs.items():
        spec = specs[out]
        assert scale.item() in scales
        codes = numerics.quantize(values[x], scale, spec, int(zero))
        np.testing.assert_array_equal(
            values[out], numerics.dequantize(codes, scale, spec, int(zero))
        )


def assert_the_reference_agrees(case, model):
    """onnx's own evaluator differs by no more than rounding itself: where sums in another order
    end on the other side of half a step, a code is another, and all behind it."""
    if model.opset_import[0].version < 19:  # it has no DequantizeLinear of before
        return
    ref, got = run(case.model, case.feed), run(model, case.feed)
    other = dict(zip(got, ReferenceEvaluator(model).run(None, dict(case.feed)), strict=True))
    for name, x in got.items():
        error = np.square(x - ref[name], dtype=np.float64).sum()
        floor = 1e-6 * max(np.square(x, dtype=np.float64).sum(), 1e-3)
        assert np.square(other[name] - x, dtype=np.float64).sum() <= error + floor, name
