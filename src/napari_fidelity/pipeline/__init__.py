"""Recipes, and running them on images."""

from napari_fidelity.pipeline.assessment import assess, assess_steps, map_recipe
from napari_fidelity.pipeline.memory import Memory, memory_needed
from napari_fidelity.pipeline.recipe import ModelReference, Recipe
from napari_fidelity.pipeline.reconstruction import reconstruct
from napari_fidelity.pipeline.restoration import restore, restore_steps, run_recipe
from napari_fidelity.pipeline.simulation import simulate

__all__ = [
    "Memory",
    "ModelReference",
    "Recipe",
    "assess",
    "assess_steps",
    "map_recipe",
    "memory_needed",
    "reconstruct",
    "restore",
    "restore_steps",
    "run_recipe",
    "simulate",
]
