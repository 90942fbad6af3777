/* The answers are kept as bits of a word, asked for once, and looked at in another function. */
#include "case.h"

static unsigned flags;

SLOW static unsigned known(void) {
    if (!flags)
        flags = 1u | (unsigned)asks_cpuid() << 4;
    return flags;
}

int main(void) {
    int total = 0;
    for (int round = 0; round < 3; round++)
        total += known() & 16 ? fast(start) : slow(start);
    printf("%d\n", total);
    return 0;
}
