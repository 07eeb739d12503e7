"""A precision for each node: the cheapest plan within an accuracy, the best within a cost."""

from onnxq.search.budget import Budget, budget_of
from onnxq.search.choices import Choices, Palette, choices_of, given, palette_of
from onnxq.search.options import SearchOptions
from onnxq.search.recipe import Recipe, recipe
from onnxq.search.result import Result, Trial
from onnxq.search.search import Samples, search

__all__ = [
    "Budget",
    "Choices",
    "Palette",
    "Recipe",
    "Result",
    "Samples",
    "SearchOptions",
    "Trial",
    "budget_of",
    "choices_of",
    "given",
    "palette_of",
    "recipe",
    "search",
]
