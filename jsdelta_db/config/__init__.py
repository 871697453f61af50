"""Configurations, validated and hashed, and the locations of a workspace."""
