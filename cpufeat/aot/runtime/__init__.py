"""IR that ships inside binaries: CPU detection, the start-up guard, and the choice among variants."""
