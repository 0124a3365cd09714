"""The differences between two versions of a log, by record and field. Without any I/O."""
