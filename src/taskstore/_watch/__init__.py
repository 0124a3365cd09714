"""Following logs from a cursor: what was committed since, and what comes."""
