"""Recipes, and running them on images."""

from napari_fidelity.pipeline.recipe import ModelReference, Recipe
from napari_fidelity.pipeline.restoration import restore, restore_steps, run_recipe

__all__ = ["ModelReference", "Recipe", "restore", "restore_steps", "run_recipe"]
