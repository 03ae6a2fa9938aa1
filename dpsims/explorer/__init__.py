"""Widgets for exploring label maps."""
