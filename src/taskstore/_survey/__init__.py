"""What the records of a log look like, for work without types: fields, and values from text."""
