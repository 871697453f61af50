"""Figures: a question together with its drawing, as the command line and notebooks ask for it."""
