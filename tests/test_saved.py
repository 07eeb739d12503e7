"""What saved values share: what is said of a file that is none of theirs, CSV by
column, values from JSON by type."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pytest

from onnxq.errors import DataError
from onnxq.json_text import from_json, to_json
from onnxq.saved import FileForm, csv_of, value_of

FORM = FileForm(
    "onnxq.thing",
    2,
    DataError,
    absent="no thing at '{path}'",
    other="'{path}': {found}",
    broken="'{path}' is broken ({class}: {why})",
    model="made for model {own}, this one is {this}",
)


def test_a_document_reads_back_with_its_kind_and_version_in_front(tmp_path):
    path = tmp_path / "thing.json"
    path.write_text(FORM.to_json({"x": float("inf")}))
    assert path.read_text().startswith('{\n "kind": "onnxq.thing",\n "version": 2,\n')
    assert FORM.load(path, lambda document: float(document["x"])) == float("inf")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no thing at 'PATH'"),
        ('{"kind": "onnxq.plan", "version": 1}', "'PATH': expected kind 'onnxq.thing' version 2, "
                                                 "found 'onnxq.plan' version 1"),
        ("{}", "'PATH': expected kind 'onnxq.thing' version 2, found 'None' version None"),
        (FORM.to_json({}), "'PATH' is broken (KeyError: 'x')"),
        ("[]", "'PATH' is broken (AttributeError: 'list' object has no attribute 'get')"),
    ],
)  # fmt: skip
def test_any_other_file_is_an_error_that_says_what_it_is(tmp_path, text, said):
    path = tmp_path / "{thing}.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        FORM.load(path, lambda document: document["x"])
    assert str(caught.value) == said.replace("PATH", str(path))


def test_a_value_of_another_model_is_refused():
    FORM.check_model("a" * 64, "a" * 64)
    with pytest.raises(DataError, match=r"^made for model aaaaaaaaaaaa, this one is bbbbbbbbbbbb$"):
        FORM.check_model("a" * 64, "b" * 64)


def test_csv_has_a_column_for_whatever_a_row_has():
    assert csv_of([{"a": 1, "b": "=x"}, {"a": 2, "c": None}]) == "a,b,c\n1,'=x,\n2,,\n"


@dataclass(frozen=True)
class Part:
    share: float
    name: str = ""


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    sums: Mapping[int, tuple[int, float]]
    best: Part | None
    ok: bool


def test_a_value_reads_back_from_its_json():
    whole = Whole((Part(float("inf"), "a"), Part(0.5)), {3: (1, float("-inf"))}, None, True)
    assert value_of(Whole, from_json(to_json(asdict(whole)))) == whole
    assert value_of(Whole, {**asdict(whole), "best": whole.parts[1]}).best is whole.parts[1]


@pytest.mark.parametrize(
    "change",
    [{"parts": 3}, {"parts": [{}]}, {"sums": []}, {"sums": {"x": [1, 2]}}, {"sums": {"1": [1]}}],
)
def test_data_of_other_types_is_an_error(change):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        value_of(Whole, {"parts": [], "sums": {}, "best": None, "ok": True, **change})
