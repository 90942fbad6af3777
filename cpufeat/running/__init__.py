"""Find out whether a program runs on a machine or CPU: predict it, or run it there.

``check``: a file and a machine or CPU in, an answer with reasons out, by an audit. ``verify``: an executable in, its
result on each CPU out; ``cpus`` selects the CPUs, ``qemu`` emulates them, and ``ptrace`` observes a program on this
machine.
"""
