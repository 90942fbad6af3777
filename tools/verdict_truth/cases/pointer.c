/* A pointer in data is set to the fast function if the CPU has the feature. */
#include "case.h"

static int (*work)(int) = slow;

int main(void) {
    if (asks_libgcc())
        work = fast;
    printf("%d\n", work(start));
    return 0;
}
