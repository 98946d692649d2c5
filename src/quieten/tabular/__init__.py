"""Recordings in tables: CSV and .npy, read and written back cell by cell."""
