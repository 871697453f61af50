"""The store: its tables, connections and rows, written and kept whole; queries read it.

Sessions come in as arguments, and functions that write never commit: the caller's transaction does.
"""
