/* A resolver uses the feature itself. */
#include "case.h"

FAST static int (*choose(void))(int) {
    __asm__ volatile(CODE ::: "xmm1", "rcx");
    return slow;
}

int work(int) __attribute__((ifunc("choose")));

int main(void) {
    printf("%d\n", work(start));
    return 0;
}
