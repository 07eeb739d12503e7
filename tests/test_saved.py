"""What saved values share: what is said of a file that is none of theirs, and CSV by column."""

import pytest

from onnxq.errors import DataError
from onnxq.saved import Form, csv_of

FORM = Form(
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
