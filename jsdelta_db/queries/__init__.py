"""What is asked of a store: reads only, starts fast, no torch and no SQLAlchemy on the fast path."""
