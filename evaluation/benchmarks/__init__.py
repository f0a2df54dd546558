"""Readers of the published benchmarks from their own files; nothing of theirs is part of this project."""
