"""From lines to the rows of mirrored tables."""
