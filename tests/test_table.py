"""One table, as a terminal, Markdown and a notebook show it."""

from onnxq.report.text import show
from onnxq.table import Folded, Table, page

EVIL = "<b>|`x`\x1b[31m"
TABLE = Table("Ranges", ("tensor", "type", "amax"), [(EVIL, "INT8", 1.234567), ("y", "FP8", 2)], 2)


def test_names_are_left_aligned_and_numbers_right(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    show(TABLE)
    title, head, _, first, second, _ = capsys.readouterr().out.splitlines()
    assert title == "Ranges"
    assert head.split() == ["tensor", "type", "amax"]
    assert first.split() == ["<b>|`x`\\x1b[31m", "INT8", "1.2346"]
    assert second.index("y") == 0
    assert second.rindex("2") == first.rindex("6")


def test_markdown_escapes_what_a_name_holds():
    head, sides, first, second = TABLE.markdown().splitlines()
    assert head == "| tensor | type | amax |"
    assert sides == "| --- | --- | --: |"
    assert first == r"| \<b\>\|\`x\`\\x1b\[31m | INT8 | 1.2346 |"
    assert second == "| y | FP8 | 2 |"


def test_a_notebook_shows_four_digits_and_no_markup_of_a_name():
    html = page("a & b", TABLE, "<note>", Folded("more", TABLE))
    assert html.startswith("<div><strong>a &amp; b</strong><table>")
    assert "<b>" not in html
    assert "<p>&lt;note&gt;</p><details><summary>more</summary><table>" in html
    assert html.count('<td style="text-align:right">1.235</td>') == 2


def test_a_notebook_says_how_many_rows_it_leaves_out():
    html = Table("", ("n",), [(i,) for i in range(20)])._repr_html_()
    assert '<tr><td colspan="1">and 8 more</td></tr>' in html
