"""What every part of ``aot`` knows of LLVM: jobs, textual IR and triples. Nothing here loads llvmlite."""
