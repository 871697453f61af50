"""Faults that a store must survive: each test here does it for real."""
