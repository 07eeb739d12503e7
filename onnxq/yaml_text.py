"""YAML from people: what two readers would read differently is refused."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MOST = 1_000_000  # values in a document


def from_yaml(text: str) -> Any:
    """The document of a text; raises ValueError for one that is no YAML, is nested too deep, or has
    a key twice in a mapping, of which YAML would take the last, or unfolds to very many values."""
    loader = None
    try:
        loader = _Loader(text)  # a SafeLoader; refuses characters that do not print
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST:
            raise ValueError(f"its aliases unfold to more than {MOST} values")
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        line = f", line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise ValueError(f"{e.problem or e.context}{line}") from e
    except yaml.YAMLError as e:
        raise ValueError(" ".join(str(e).split())) from e
    except RecursionError as e:
        raise ValueError("it is nested too deep to be read") from e
    finally:
        if loader is not None:
            loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, each alias unfolded; past `MOST` where it holds itself."""
    if id(node) not in known:
        known[id(node)] = MOST + 1
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (p for part in parts for p in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{name}' stands twice in one mapping", key.start_mark
                )
            seen.add(name if isinstance(name, Hashable) else None)
        return super().construct_mapping(node, deep)
