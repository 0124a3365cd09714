"""How older lines are read in today's shape: evolutions as data. Pure, without any I/O."""
