"""Detect what a machine is and which features it can use: make a ``Host`` of a ``Machine``.

:mod:`.machine` is the interface to a machine. :mod:`.systems` implements it for this one, with :mod:`.instructions`;
:mod:`.recorder`, :mod:`.recording` and :mod:`.dumps` for recorded ones. Then, in order: :mod:`.cpuid` and :mod:`.probe`
parse what a machine answers, :mod:`.arch` makes a reading of each kind of core from it, :mod:`.unreported` says why
features are missing, and :mod:`.detect` merges the readings into a :mod:`.host`. :mod:`.crosscheck` compares two
sources.
"""
