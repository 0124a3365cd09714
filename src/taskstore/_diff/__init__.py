"""What differs between two versions of a log, by record and field. Pure, without any I/O."""
