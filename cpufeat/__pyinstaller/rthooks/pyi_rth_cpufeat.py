"""Before the application's own code: serve as a worker if started as one, or say that this can be done.

:mod:`cpufeat.aot.worker.interpreter` starts the application so.
"""

import sys

if sys.argv[1:] == ["--cpufeat-worker"]:
    from cpufeat.aot.worker.server import serve

    serve()
sys._cpufeat_worker = "--cpufeat-worker"  # type: ignore[attr-defined]
