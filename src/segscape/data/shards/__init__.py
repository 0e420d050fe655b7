"""Datasets as tar shards on a disk or at a URL: reading by byte range, writing, and keeping whole shards."""
