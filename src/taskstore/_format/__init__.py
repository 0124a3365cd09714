"""The file format: names, instants, record lines and problems. Pure, without any I/O."""
