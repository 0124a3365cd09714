"""What the records of a log look like, for whoever has no types: fields, and values from text."""
