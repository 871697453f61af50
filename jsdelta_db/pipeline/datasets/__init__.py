"""Data sets constructed with a trained model."""
