/* Ways by which Windows or its C run time come to code that nothing calls. The names say what an audit must answer; what is
   linked has none, so each function for x86 holds its number in the order of this file. */

#ifdef __x86_64__
#define INSTRUCTION "vpaddd %%ymm0, %%ymm0, %%ymm0\n vzeroupper\n test %0, %%eax"
__attribute__((always_inline)) static inline int bits(void) {
    int a, b, c, d;
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(7), "2"(0));
    return b;
}
#define CAN (bits() & 1 << 5)
#else
int __stdcall IsProcessorFeaturePresent(unsigned);
#define INSTRUCTION ".arch_extension sve\n add z0.s, z0.s, z1.s\n // %0"
#define CAN IsProcessorFeaturePresent(46)
#endif
#define NEEDS(name) __attribute__((used, noinline)) static void name(void) { __asm__ volatile(INSTRUCTION :: "i"(0x5a5a0000 + __COUNTER__) : "cc"); }
#define POINTER(section_name, name) \
    __attribute__((used, section(section_name))) static void (*const pointer_to_##name)(void) = name;

NEEDS(checked_call)
NEEDS(load_initialiser)
POINTER(".CRT$XCU", load_initialiser)
NEEDS(load_callback)
POINTER(".CRT$XLB", load_callback)
NEEDS(load_constructor)
static volatile int number;
__attribute__((constructor)) static void constructor(void) { number--; load_constructor(); number += 3; }

NEEDS(bare_handler)
__asm__(".text\n.def throws; .scl 3; .type 32; .endef\nthrows: .seh_proc throws\n.seh_handler bare_handler, @except\n"
        ".seh_endprologue\n ret\n.seh_endproc\n");

NEEDS(bare_table)
__attribute__((dllexport)) void (*const exported_table[2])(void) = {0, bare_table};

__attribute__((noinline, dllexport)) void check(void) { if (CAN) checked_call(); }

#ifdef PROGRAM
int main(int count, char **arguments) {
    if (count > 5) check();
    return 0;
}
#endif
