"""Common ground of all stages: values, conditions on bits, files and processes. Nothing here knows about CPUs."""
