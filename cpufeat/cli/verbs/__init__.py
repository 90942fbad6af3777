"""One module for each verb; its name is the verb's.

``arguments(parser)`` declares the verb's arguments; ``run(options)`` carries it out and returns the exit status.
The table of verbs is ``VERBS`` in :mod:`cpufeat.cli.parser`.
"""
