"""The three-way merge of logs. Pure, without any I/O."""
