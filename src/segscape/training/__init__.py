"""Training: recipes, the loop, averages, checkpoints, tracking."""

from segscape.training.loop import train
from segscape.training.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe", "train"]
