/* The image of thread-local data contains a pointer to the fast function. */
#include "case.h"

static _Thread_local int (*work)(int) = fast;

int main(void) {
    printf("%d\n", work(start));
    return 0;
}
