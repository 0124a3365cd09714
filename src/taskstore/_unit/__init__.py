"""One transaction of the database: from the writes in it to lines in the log."""
