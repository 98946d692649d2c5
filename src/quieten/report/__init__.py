"""Reports: one HTML page with figures, spectrograms and players."""
