"""Names stay names: in a terminal, a shell, a spreadsheet, Markdown, a list of patterns, JSON."""

import csv
import io
import json
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.escaping import (
    csv_text,
    from_csv_cell,
    markdown_code,
    markdown_text,
    printable,
    shell_line,
    shell_word,
)
from onnxq.json_text import from_json, to_json
from onnxq.model.patterns import exactly, expand, matches

ANY = st.text(st.characters(exclude_categories=()))  # lone surrogates too
HOSTILE = ("\x1b]0;owned\x07", "a\nb", "\u202egnp.exe", "x;touch y;", "it's", "=1+1", '"x"',
           "\x9b2J", "a b", "$HOME", "m\udcff", "*", "[a]", "\r", "a\tb", "層",
           "back\\slash")  # fmt: skip


def test_ordinary_names_are_left_as_they_are():
    for name in ("/model.0/conv/Conv", "layer1_conv (Conv)", "x:0", "neck/deblocks.0.0", "層"):
        assert printable(name) == markdown_text(name) == csv_text([[name]]).strip() == name
        assert exactly(name) == f"name:{name}"
    assert shell_word("a/b.onnx") == "a/b.onnx"
    assert markdown_code("conv1") == "`conv1`"


@given(ANY)
def test_what_is_printable_has_nothing_that_moves_a_cursor_or_ends_a_line(name):
    assert printable(name).isprintable()


@pytest.mark.parametrize("name", [n for n in HOSTILE if "\udcff" not in n])
def test_a_shell_reads_a_name_back_and_runs_none_of_it(name):
    line = f"printf %s {shell_word(name)}"
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode() == name


def test_a_file_name_that_is_not_utf8_is_one_word_of_its_bytes():
    line = shell_line(["printf", "%s", "m\udcff'.onnx"])
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"m\xff'.onnx"


@given(st.text(st.characters(exclude_characters="\0")))
def test_a_cell_is_no_formula_and_reads_back_from_a_file(name):
    text = csv_text([["name", "score"], [name, -1.5]])
    _, (cell, score) = csv.reader(io.StringIO(text, newline=""))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (from_csv_cell(cell), float(score)) == (name, -1.5)


def test_a_name_in_markdown_makes_no_markup():
    assert markdown_text("a|b") == "a\\|b"
    assert markdown_text("<b>[x](y)`z`*") == "\\<b\\>\\[x\\](y)\\`z\\`\\*"
    assert markdown_text("&lt;") == "\\&lt;"
    assert markdown_text("a\nb") == "a\\\\nb"
    assert markdown_code("a`b``c") == "``` a`b``c ```"


@given(ANY, ANY)
def test_an_exact_pattern_is_one_line_that_names_that_node_alone(name, other):
    line = exactly(name)
    assert line.isprintable()
    assert matches(line, SimpleNamespace(name=name))
    assert matches(line, SimpleNamespace(name=other)) == (other == name)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_exact_pattern_reads_back_from_a_list(name, tmp_path):
    listed = tmp_path / "skip.txt"
    listed.write_text(f"# nodes\n{exactly(name)}\n{exactly('other')}\n", "utf-8")
    first, second = expand([f"@{listed}"])
    assert matches(first, SimpleNamespace(name=name))
    assert second == "name:other"


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@given(st.dictionaries(ANY, st.floats() | ANY | st.integers() | st.lists(st.floats())))
def test_json_is_json_and_prints_in_any_terminal(document):
    text = to_json(document)
    assert all(map(str.isprintable, text.split("\n")))
    found = strict(text)
    for key, value in document.items():
        if isinstance(value, float):
            assert repr(float(found[key])) == repr(value)
        elif not isinstance(value, list):
            assert found[key] == value


def test_numbers_that_json_has_not_are_strings_that_float_reads():
    values = [float("inf"), float("-inf"), float("nan"), 1.5]
    assert to_json(values, indent=None) == '["inf", "-inf", "nan", 1.5]'


def test_json_nested_too_deep_is_no_json():
    with pytest.raises(ValueError, match="nested too deep"):
        from_json("[" * 100_000)
