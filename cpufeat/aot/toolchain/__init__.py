"""From objects to programs and libraries, by the linker of the system or of Zig."""
