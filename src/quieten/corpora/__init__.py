"""Public speech corpora as folders to train on: read where they come from, split, listed."""
