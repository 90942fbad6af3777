"""Run LLVM in a process of its own, so that an abort in LLVM is an exception in the caller.

A job and a module come in, an object comes out. ``client`` (here) starts the program that ``worker_command`` names, and
sends the job by ``protocol`` to ``server`` (there), which has ``codegen`` run the passes and LLVM: it links the
``helper_modules`` (guard, selector) and runs LLVM's ``pipeline``, by ``module_functions``. ``diagnosis`` turns the end
of the process into an error.
"""
