"""Queries: what is asked of a store. They only read, and start fast: no torch, no SQLAlchemy for SQLite."""
