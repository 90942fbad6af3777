/* A resolver does not ask. */
#include "case.h"

static int (*choose(void))(int) {
    return start ? fast : slow;
}

int work(int) __attribute__((ifunc("choose")));

int main(void) {
    printf("%d\n", work(1));
    return 0;
}
