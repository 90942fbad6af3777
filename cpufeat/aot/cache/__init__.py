"""A cache of artifacts on disk.

In: a module, its targets and options. Out: the artifact made of them before, or what the caller makes now.
Order: ``memo`` asks ``fingerprint`` what compiles, and ``store`` for what was kept under all that.
"""
