"""Which recoveries run, and in which order."""

import pytest

from onnxq.errors import PlanError
from onnxq.plan import Plan
from onnxq.recover.choice import ALGORITHMS, chosen, parse
from onnxq.spec import Edge, QuantSpec


def plan(*dtypes):
    return Plan("m", "tensorrt", {Edge("n", i): QuantSpec(d) for i, d in enumerate(dtypes)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", ()),
        ("all", ALGORITHMS),
        ("bias", ("bias",)),
        ("bias,round", ("round", "bias")),
        (" smooth , equalize", ("equalize", "smooth")),
        ("auto", None),
    ],
)
def test_a_list_is_run_in_the_order_of_the_pipeline(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "biass", "none,bias", "bias;round"])
def test_an_unknown_recovery_is_refused_with_the_choices(text):
    with pytest.raises(PlanError, match=r"unknown recovery .* of channels, equalize, smooth"):
        parse(text)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("int8", "int8"), ("channels", "bias")),
        (("fp8",), ("channels", "bias")),
        (("int8", "int4-in-int8"), ("channels", "round", "bias")),
        (("int4",), ("channels", "round", "bias")),
        (("int16",), ()),
        (("fixed88",), ()),
        ((), ()),
    ],
)
def test_unasked_runs_what_the_width_of_the_codes_needs(dtypes, expected):
    assert chosen("auto", plan(*dtypes)) == expected
