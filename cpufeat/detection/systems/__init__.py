"""One module a system other than Linux: how its kernel is asked."""
