/* A resolver asks, and chooses the function that the loader binds. */
#include "case.h"

static int (*choose(void))(int) {
    return asks_cpuid() ? fast : slow;
}

int work(int) __attribute__((ifunc("choose")));

int main(void) {
    printf("%d\n", work(start));
    return 0;
}
