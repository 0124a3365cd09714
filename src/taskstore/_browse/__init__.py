"""The pages of `taskstore browse`: a plugin of Datasette, and the server around it."""
