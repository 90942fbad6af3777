"""One module an architecture: what a machine reads, turned into features and identity."""
