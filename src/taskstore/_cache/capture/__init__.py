"""What a database notes of the rows that were changed."""
