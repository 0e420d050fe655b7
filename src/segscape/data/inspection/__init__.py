"""What is right and wrong with a dataset, in one pass; and the draft of a label set and recipe for a new one."""
