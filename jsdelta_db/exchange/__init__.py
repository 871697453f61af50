"""Rows and files between stores and machines: exports, imports, attacks without a database."""
