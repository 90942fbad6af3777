"""Find out whether a program runs on a machine or CPU: predict it, or run it there.

``check``: a file and a machine or CPU in, a verdict with reasons out, by an audit: ``file_check`` judges one file
(``payloads``: what it carries besides its code), ``libraries`` all that it loads, which ``dependencies`` finds.
``verify``: an executable in, its result on each CPU out; ``cpus`` selects the CPUs, ``qemu`` emulates them, and
``gdb_remote`` or ``ptrace`` observe the program; ``death`` tells at which instruction it died (``process_memory``).
"""
