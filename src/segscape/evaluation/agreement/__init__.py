"""Whether a segmenter finds in a picture what the layout asked for: confusions, class mappings, segmenters."""
