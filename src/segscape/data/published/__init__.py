"""The published datasets in their published layouts, one file each, and how their files are found and paired."""
