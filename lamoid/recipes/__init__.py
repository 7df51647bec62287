"""Recipes: the only place where neighbours meet; each is short and read top to bottom."""
