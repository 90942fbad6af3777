"""Data flow from answers of the CPU to the branches that depend on them."""
