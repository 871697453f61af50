"""Checks of ``gpu.py``, a module each, in the order they run: ``cases(device)`` says what to find out."""
