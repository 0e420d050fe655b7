"""What the norms of a trained generator do: Figures 2, 3 and 6 of the CLADE paper, in numbers and pictures."""
