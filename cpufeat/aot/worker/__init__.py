"""The process that LLVM runs in, so that an abort there is an exception here."""
