"""The modules of the page's script, joined into one text.

A file is an ES module with explicit imports and exports, so that each can be read and tested
alone (`node --test`). The page is one file that may fetch nothing, so every module becomes a
function that returns what it exports, after those that it imports:

    const axis = (() => { ...; return { span, ticks }; })();
    const charts = (() => { const { span, ticks } = axis; ...; return { chart }; })();

An import is one statement, `import { a, b } from "./name.mjs";`; an export stands before what it
names, `export function`, `export const`, never as a default.
"""

from __future__ import annotations

import re
from collections.abc import Callable

IMPORT = re.compile(r'^import \{ ([\w\s,]+?),? \} from "\./(\w+)\.mjs";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)


def joined(main: str, source: Callable[[str], str]) -> str:
    """The text of module `main` and all that it imports. source: name of a module -> its text.

    Raises ValueError for modules that import each other in a circle, or in a form unknown here.
    """
    done: dict[str, str] = {}
    _add(main, source, done, ())
    return "\n".join(done.values())


def _add(
    name: str, source: Callable[[str], str], done: dict[str, str], way: tuple[str, ...]
) -> None:
    if name in way:
        raise ValueError(f"modules import each other: {' -> '.join((*way, name))}")
    if name in done:
        return
    text = source(name)
    for found in IMPORT.finditer(text):
        _add(found[2], source, done, (*way, name))
    done[name] = _wrapped(name, text)


def _wrapped(name: str, text: str) -> str:
    body = IMPORT.sub(lambda m: f"const {{ {m[1]} }} = {m[2]}_module;\n", text)
    names = ", ".join(EXPORT.findall(body))
    body = re.sub(r"^export (?=async |function |const |class )", "", body, flags=re.MULTILINE)
    if left := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
        raise ValueError(f"{name}.mjs: '{left[0]}' is no import or export that can be joined")
    return f"const {name}_module = (() => {{\n{body}return {{ {names} }};\n}})();\n"
