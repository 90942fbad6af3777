"""Values, conditions on bits, files and processes, for all stages; nothing here knows about CPUs."""
