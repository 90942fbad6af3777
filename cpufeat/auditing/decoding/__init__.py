"""Find the features that the instructions of code require.

In: an image. Out: a :class:`~cpufeat.auditing.decoding.scan.Scan`. ``regions`` splits the code into functions and gaps;
``x86`` or ``aarch64``, on their base in ``scan``, look up the opcodes of each region (``opcodes_x86``,
``opcodes_aarch64``), tell code from data where a region holds both (``code_discovery``), and locate the uses. What
iced-x86 does not know is of APX (``apx``), in a table (``newer_x86``), or only has a prefix that tells of it
(``prefixes_x86``).
"""
