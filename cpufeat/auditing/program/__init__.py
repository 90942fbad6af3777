"""Make a program of an image's code: functions, symbols, cross-references and control-flow graphs.

An image comes in, lifted by :mod:`cpufeat.auditing.lifting`. ``functions`` and ``symbols`` find what is at an address,
``xrefs`` (one finder an architecture) and ``references`` what refers to it, and ``cfg`` the control flow of a function.
"""
