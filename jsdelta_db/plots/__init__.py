"""Rows in, figure out."""
