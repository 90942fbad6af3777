/* What every case has: a function that uses a feature, one that does not, and two ways to ask for the feature.

   Given on the command line: TARGET, as GCC's attribute spells the feature; CODE, an instruction of it; SUPPORTS, as
   __builtin_cpu_supports spells it; LEAF, REGISTER and BIT of CPUID; NEEDS_YMM, whether the system must save YMM. */
#include <stdio.h>
#include <stdlib.h>

#if defined(__cplusplus) && defined(main) /* a library, whose function the program load.c looks up by its name in C */
extern "C" int main();
#endif

#define FAST __attribute__((noinline, target(TARGET)))
#define SLOW __attribute__((noinline))

static volatile int start = 7;

FAST static int fast(int number) {
    __asm__ volatile(CODE ::: "xmm1", "rcx");
    return 3 * number + 1;
}

SLOW static int slow(int number) {
    return 3 * number + 1;
}

static inline int asks_cpuid(void) {
    unsigned registers[4], low = 0, high;
    __asm__ volatile("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3]) : "a"(1), "c"(0));
    if (NEEDS_YMM) {
        if (!(registers[2] >> 27 & 1))
            return 0;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if ((low & 6) != 6)
            return 0;
    }
    __asm__ volatile("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3]) : "a"(LEAF), "c"(0));
    return registers[REGISTER] >> BIT & 1;
}

static inline int asks_libgcc(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports(SUPPORTS) != 0;
}
