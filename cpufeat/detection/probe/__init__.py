"""One file a mechanism: how a reading of a machine (:mod:`cpufeat.detection.machine`) becomes facts."""
