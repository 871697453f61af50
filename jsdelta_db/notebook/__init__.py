"""Notebooks: a workspace as Python uses it; its verbs work, its questions answer with Arrow tables."""
