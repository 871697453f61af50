"""Tests of the workbench: its devices, and its worker processes."""
