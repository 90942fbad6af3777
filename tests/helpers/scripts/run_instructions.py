"""Run instructions on this CPU, each in a process of its own, and print which of them die.

Standard input has an instruction a line, in hexadecimal; it gets the address of an operand in RDI. Printed are the exit
statuses of a process with an aligned operand and of one with a misaligned operand.
"""

import ctypes
import mmap
import os
import sys

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
PUSH_RBX, CLEAR, POP_RBX_RET = "53", "31c031d231c9", "5bc3"
BOUNDARY, OFF = 64, 8

memory = mmap.mmap(-1, 1 << 16, mmap.MAP_PRIVATE)  # what one instruction stores, the next must not load
data = (ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 4096) // BOUNDARY * BOUNDARY
page = mmap.mmap(-1, 4096)
start = ctypes.addressof(ctypes.c_char.from_buffer(page))
libc = ctypes.CDLL(None)


def status(code: bytes, operand: int) -> int:
    """The exit status of a process that runs the code: 0, or the negated number of a signal."""
    child = os.fork()
    if not child:
        page[: len(code)] = code
        libc.mprotect(ctypes.c_void_p(start), 4096, PROT_READ | PROT_EXEC)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start)(operand)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


for line in sys.stdin:
    code = bytes.fromhex(PUSH_RBX + CLEAR + line.strip() + POP_RBX_RET)
    sys.stdout.write(f"{status(code, data)} {status(code, data + OFF)}\n")
    sys.stdout.flush()  # else each process would write it again
