"""Test sets: pairs of noisy and clean files, read from disk or mixed from a recipe."""
