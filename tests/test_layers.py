"""The import rule holds: no module imports one of a floor above its own, and none in a circle."""

from __future__ import annotations

from tests.layers import FLOORS, FOREIGN, ROOT, circles, climbs, floor_of, imported, modules


def test_no_import_runs_up() -> None:
    assert climbs() == []


def test_no_modules_import_each_other() -> None:
    assert circles() == []


def test_every_module_stands_on_a_floor_and_every_floor_has_one() -> None:
    assert {floor_of(name) for name in modules()} == set(FLOORS)


def test_a_foreign_runtime_is_imported_on_its_own_floor_alone() -> None:
    strays = [
        (module, name)
        for module, path in modules().items()
        for name in imported(path)
        if floor_of(module) not in FOREIGN.get(name.partition(".")[0], FLOORS)
    ]
    assert strays == []


def test_the_page_on_the_design_shows_the_same_floors() -> None:
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    rows = [f"| `{floor}` | {what} |" for floor, what in reversed(FLOORS.items())]
    assert "\n".join(rows) in page
