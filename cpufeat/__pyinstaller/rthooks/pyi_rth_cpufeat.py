"""Let a frozen application serve as the LLVM worker: run the worker and exit if the command line asks for it.

Otherwise set ``sys._cpufeat_worker``, by which :mod:`cpufeat.aot.worker.worker_command` knows that it can start the
application as its worker.
"""

import sys

if sys.argv[1:] == ["--cpufeat-worker"]:
    from cpufeat.aot.worker.server import serve

    serve()
sys._cpufeat_worker = "--cpufeat-worker"  # type: ignore[attr-defined]
