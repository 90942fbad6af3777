"""Ground that every stage stands on: values, files and processes. Nothing here knows a CPU."""
