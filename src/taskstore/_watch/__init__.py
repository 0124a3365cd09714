"""Follow logs from a cursor: yield what was committed since then, and new changes."""
