"""Common ground of all stages: values, files and processes. Nothing here knows about CPUs."""
