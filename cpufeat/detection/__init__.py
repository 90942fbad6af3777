"""What a machine is and can run: readings of a :class:`~cpufeat.detection.machine.Machine` in, a ``Host`` out."""
