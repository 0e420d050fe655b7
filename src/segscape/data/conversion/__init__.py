"""Datasets into other layouts, with their labels renamed."""
