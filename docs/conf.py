"""How the site is built: `python -m sphinx -W docs build/docs` (pip install "onnxq[docs]").

The pages are Markdown that reads as well without the site. The command line's reference is made
from the commands themselves, the Python reference from the docstrings.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from onnxq import __version__
from onnxq.option import KEY

sys.path.insert(0, str(Path(__file__).parent))
from list_commands import BEGINS, COMMANDS, commands
from list_errors import listing

project = "onnxq"
release = version = __version__
copyright = "The onnxq authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
suppress_warnings = [  # tests/docs/test_links.py sees to both, and says what to do
    "myst.xref_missing",  # links out of docs/
    "toc.not_included",
]

smartquotes = False  # they make one dash of the two of an option
html_theme = "furo"
html_title = f"onnxq {release}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
pygments_style = "default"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88

CLICK = """```{{eval-rst}}
.. click:: onnxq_cli.{1}_command:command
   :prog: onnxq {0}
   :nested: full
```
"""  # a command's page: what docs/cli.md has of it in the repository, with links to each option
PAGES = """
```{{toctree}}
:maxdepth: 1

{}
```
"""
SPAN = re.compile(r"(`[^`]+`)")


def as_rst(text: str, fields: str) -> str:
    """A docstring's line as reStructuredText: `code` and a field that is explained are code.

    fields: pattern of the fields' names. Nothing else is markup.
    """
    if fields:
        text = re.sub(rf"(?<![\w`])({fields})(?=(?:, \w+)*:(?: |$))", r"`\1`", text)
    parts = SPAN.split(text)
    return "".join(
        f"``{part[1:-1]}``" if i % 2 else re.sub(r"([*|_\\])", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def show_docstring(
    _app: Any, _what: str, _name: str, shown_object: Any, _options: Any, lines: list[str]
) -> None:
    """What is indented is shown as it is, a formula or an example; the rest is text."""
    own = dataclasses.fields(shown_object) if dataclasses.is_dataclass(shown_object) else ()
    fields = "|".join(field.name for field in own)
    shown: list[str] = []
    literal = False
    for line in lines:
        if line.startswith("    ") and not literal and (not shown or not shown[-1]):
            shown += ["::", ""]
            literal = True
        elif line and not line.startswith(" "):
            literal = False
        elif line.startswith("    ") and not literal:  # a line that goes on
            line = line.lstrip()
        shown.append(line if literal else as_rst(line, fields))
    for field in own:
        if said := field.metadata.get(KEY):
            shown += [f"- ``{field.name}``: {as_rst(said.help, '')}"]
    lines[:] = shown


def show_signature(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str | None, end: Any
) -> tuple[str | None, Any]:
    """A default that is made anew each time is no Python as dataclasses print it."""
    return signature and signature.replace("<factory>", "..."), end


def read_page(_app: Any, name: str, source: list[str]) -> None:
    """Links that are called like their file get its title; lists of errors and options are made."""
    source[0] = re.sub(r"\[[\w-]+\.md\]\(", "[](", source[0])
    if name == "troubleshooting":
        source[0] += listing()
    if name == "cli":
        pages = "\n".join(f"commands/{command}" for command in COMMANDS)
        source[0] = source[0].partition(BEGINS)[0] + PAGES.format(pages)


def write_commands(_app: Any) -> None:
    """A page for each command, into docs/commands/, which git ignores."""
    folder = Path(__file__).parent / "commands"
    folder.mkdir(exist_ok=True)
    dict(commands())  # loads each, which gives it its name and the options of all
    for name in COMMANDS:
        page, text = folder / f"{name}.md", CLICK.format(name, name.replace("-", "_"))
        if not page.is_file() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("builder-inited", write_commands)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", show_docstring)
    app.connect("autodoc-process-signature", show_signature)
