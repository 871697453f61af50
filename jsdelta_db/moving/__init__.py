"""Rows and files on their way from one store to another: exports, imports, attacks without a database.

Read :mod:`~jsdelta_db.moving.portable` first: what a row looks like on the way.
"""
