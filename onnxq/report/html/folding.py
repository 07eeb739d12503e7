"""A graph's nodes in folders by module path, so that a graph of thousands draws as a few boxes.

`/pts_backbone/blocks.0/blocks.0.0/Conv` lies in `pts_backbone`, in `blocks.0`, in `blocks.0.0`. A
folder with one thing in it is that thing. More than MANY things in one folder, as in graphs
whose names say nothing, are split in graph order into runs, where the fewest edges are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MANY, RUN = 40, 24  # things in one folder; in a run of a split one
MARGIN = 8  # how far from even the cut between two runs may be


@dataclass(frozen=True)
class Folder:
    """label: its part of the path. parent: index of the folder around it, -1 for none."""

    label: str
    path: str
    parent: int


@dataclass(frozen=True)
class FoldedGraph:
    """Folders, outer ones first; of each node its folder (-1: none) and its short name."""

    folders: tuple[Folder, ...]
    folder_of: tuple[int, ...]
    labels: tuple[str, ...]


@dataclass
class _Branch:
    """A folder while the tree grows: `nodes` are (label, index), in graph order."""

    label: str
    path: str
    branches: dict[str, _Branch] = field(default_factory=dict)
    nodes: list[tuple[str, int]] = field(default_factory=list)
    runs: list[_Branch] = field(default_factory=list)

    def first(self) -> int:
        """The first node in it."""
        inner = [b.first() for b in (*self.branches.values(), *self.runs)]
        return min([i for _, i in self.nodes] + inner)

    def members(self) -> list[int]:
        """Every node in it."""
        found = [i for _, i in self.nodes]
        for branch in (*self.branches.values(), *self.runs):
            found += branch.members()
        return found


Thing = _Branch | tuple[str, int]


def fold(names: Sequence[str], edges: Iterable[tuple[int, int]]) -> FoldedGraph:
    """Folders for nodes of these names, given in graph order, with `edges` between them."""
    root = _Branch("", "")
    for i, name in enumerate(names):
        parts = [part for part in name.split("/") if part] or [name]
        branch = root
        for part in parts[:-1]:
            path = f"{branch.path}/{part}"
            branch = branch.branches.setdefault(part, _Branch(part, path))
        branch.nodes.append((parts[-1], i))
    _collapse(root)
    links = list(edges)
    _split(root, links, len(names))
    folders: list[Folder] = []
    folder_of, labels = [-1] * len(names), list(names)
    _number(root, -1, folders, folder_of, labels)
    return FoldedGraph(tuple(folders), tuple(folder_of), tuple(labels))


def _collapse(branch: _Branch) -> None:
    """Let what is alone in a folder stand in its place."""
    for key, inner in list(branch.branches.items()):
        _collapse(inner)
        if len(inner.branches) == 1 and not inner.nodes:
            (only,) = inner.branches.values()
            only.label = f"{inner.label}/{only.label}"
            branch.branches[key] = only
        elif len(inner.nodes) == 1 and not inner.branches:
            ((label, i),) = inner.nodes
            branch.nodes.append((f"{inner.label}/{label}", i))
            del branch.branches[key]
    branch.nodes.sort(key=lambda node: node[1])


def _split(branch: _Branch, edges: list[tuple[int, int]], count: int) -> None:
    inside = set(branch.members())
    within = [(a, b) for a, b in edges if a in inside and b in inside]
    for inner in branch.branches.values():
        _split(inner, within, count)
    things: list[Thing] = [*branch.branches.values(), *branch.nodes]
    while len(things) > MANY:
        things.sort(key=lambda t: t.first() if isinstance(t, _Branch) else t[1])
        things = [_run(branch, part) for part in _parts(things, within, count)]
        branch.branches, branch.nodes = {}, []
        branch.runs = [t for t in things if isinstance(t, _Branch)]


def _parts(things: list[Thing], edges: list[tuple[int, int]], count: int) -> list[list[Thing]]:
    """The things in runs of about RUN, cut where the fewest edges pass."""
    place = [-1] * count
    for k, thing in enumerate(things):
        for i in thing.members() if isinstance(thing, _Branch) else (thing[1],):
            place[i] = k
    passing = [0] * (len(things) + 1)  # edges over the gap before thing k, as differences
    for a, b in edges:
        low, high = sorted((place[a], place[b]))
        passing[low + 1] += 1
        passing[high + 1] -= 1
    for k in range(1, len(passing)):
        passing[k] += passing[k - 1]
    cuts, start = [0], 0
    while len(things) - start > RUN + MARGIN:
        near = range(start + RUN - MARGIN, start + RUN + MARGIN + 1)
        start = min(near, key=lambda k: (passing[k], abs(k - cuts[-1] - RUN)))
        cuts.append(start)
    return [things[a:b] for a, b in zip(cuts, [*cuts[1:], len(things)], strict=True)]


def _run(owner: _Branch, things: list[Thing]) -> _Branch:
    ends = [t.label if isinstance(t, _Branch) else t[0] for t in (things[0], things[-1])]
    first, last = ends[0].split(" … ")[0], ends[1].split(" … ")[-1]
    run = _Branch(f"{first} … {last}" if len(things) > 1 else first, owner.path)
    for k, thing in enumerate(things):
        if isinstance(thing, _Branch):
            run.branches[str(k)] = thing
        else:
            run.nodes.append(thing)
    return run


def _number(
    branch: _Branch, index: int, folders: list[Folder], folder_of: list[int], labels: list[str]
) -> None:
    for label, i in branch.nodes:
        folder_of[i], labels[i] = index, label
    for inner in sorted((*branch.branches.values(), *branch.runs), key=_Branch.first):
        folders.append(Folder(inner.label, inner.path, index))
        _number(inner, len(folders) - 1, folders, folder_of, labels)
