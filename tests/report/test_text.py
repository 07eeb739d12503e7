"""Tables: names are folded at separators, nothing is cut, and a pipe gets no padding."""

import pytest

from onnxq.report.text import show
from onnxq.table import Table

NAME = "/encoder/layer.1/intermediate/intermediate_act_fn/" + "a_long_last_part_" * 4 + "/Mul_1"


@pytest.fixture
def printed(capsys, monkeypatch):
    def call(name, width):
        monkeypatch.setenv("COLUMNS", str(width))
        show(Table("Title", ("tensor", "amax"), [(name, 1.5)]))
        return capsys.readouterr().out.splitlines()

    return call


def test_a_name_that_fits_is_on_one_line(printed):
    assert printed("/layer1/Conv", 80)[-2] == "/layer1/Conv    1.5"


@pytest.mark.parametrize("width", [30, 60, 80])
def test_a_long_name_is_folded_and_nothing_of_it_is_lost(printed, width):
    lines = printed(NAME, width)
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    cells = [line.replace("1.5", "").strip() for line in lines[3:]]
    assert "".join(cells) == NAME


def test_a_long_name_is_folded_after_a_separator(printed):
    name = "/encoder/layer.1/intermediate/intermediate_act_fn/more_of_it/Mul_1_output_0"
    first, second = printed(name, 60)[3:5]
    assert first.split() == ["/encoder/layer.1/intermediate/intermediate_act_fn/", "1.5"]
    assert second == "  more_of_it/Mul_1_output_0"


def test_a_wide_terminal_shows_long_names_whole(printed):
    assert printed(NAME, 200)[3].split() == [NAME, "1.5"]


def test_markup_in_a_name_is_printed_as_it_is(printed):
    assert printed("[bold]x[/bold]", 80)[-2].startswith("[bold]x[/bold]")


def test_into_a_pipe_a_row_is_a_line_however_long_its_name(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    show(Table("Title", ("tensor", "amax"), [(NAME, 1.5), ("short", 2.5)]))
    assert capsys.readouterr().out.splitlines()[3].split() == [NAME, "1.5"]
