"""Recipes: data set, architecture, method and hyper-parameters, as TOML that a user can read and copy."""

from jsdelta_db.config.recipes.catalogue import (
    ANY,
    DEFAULT_RECIPES,
    get_recipe,
    list_recipes,
    read_recipe_text,
    recipe_for,
)
from jsdelta_db.config.recipes.recipe import Recipe

__all__ = ["ANY", "DEFAULT_RECIPES", "Recipe", "get_recipe", "list_recipes", "read_recipe_text", "recipe_for"]
