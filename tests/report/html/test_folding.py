"""Nodes in folders by their names."""

from hypothesis import given
from hypothesis import strategies as st

from onnxq.report.html.folding import MANY, fold


def paths(folded, names):
    """The folders of each node, outer ones first."""
    found = []
    for i in range(len(names)):
        labels, folder = [], folded.folder_of[i]
        while folder >= 0:
            labels.insert(0, folded.folders[folder].label)
            folder = folded.folders[folder].parent
        found.append((*labels, folded.labels[i]))
    return found


def test_a_name_is_a_path():
    names = ["/backbone/a/Conv", "/backbone/a/Relu", "/backbone/b/Conv", "/backbone/b/Relu", "/out"]
    assert paths(fold(names, []), names) == [
        ("backbone", "a", "Conv"),
        ("backbone", "a", "Relu"),
        ("backbone", "b", "Conv"),
        ("backbone", "b", "Relu"),
        ("out",),
    ]


def test_what_is_alone_in_a_folder_stands_in_its_place():
    names = ["/a/b/c/Conv", "/a/b/d/Conv", "/e/f/Relu"]
    assert paths(fold(names, []), names) == [
        ("a/b", "c/Conv"),
        ("a/b", "d/Conv"),
        ("e/f/Relu",),
    ]


def test_runs_of_names_without_paths_are_cut_where_no_second_edge_passes():
    names = [f"n{i}" for i in range(80)]
    edges = [(i, i + 1) for i in range(79)]
    edges += [(i, i + 4) for i in range(79 - 4) if i % 20 not in range(16, 20)]
    folded = fold(names, edges)
    ends = {max(i for i, f in enumerate(folded.folder_of) if f == k) for k in set(folded.folder_of)}
    assert ends <= {19, 39, 59, 79}


words = st.sampled_from(["a", "b", "c", "layer.0", ""])
names = st.lists(st.lists(words, min_size=1, max_size=4).map("/".join), max_size=150)


@given(names, st.randoms())
def test_every_node_is_in_one_folder_and_no_folder_is_large(made, random):
    named = [f"{name}/{i}" for i, name in enumerate(made)]
    pick = range(len(named))
    edges = [tuple(random.choices(pick, k=2)) for _ in named]
    folded = fold(named, edges)
    assert len(folded.folder_of) == len(folded.labels) == len(named)
    children = [*folded.folder_of, *(folder.parent for folder in folded.folders)]
    assert all(children.count(folder) <= MANY for folder in set(children))
    assert all(folder.parent < i for i, folder in enumerate(folded.folders))
    assert {f for f in folded.folder_of if f >= 0} <= set(range(len(folded.folders)))
