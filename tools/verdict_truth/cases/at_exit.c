/* A function that exit() calls uses the feature. */
#include "case.h"

FAST static void end(void) {
    start = fast(start);
}

int main(void) {
    atexit(end);
    printf("%d\n", slow(start));
    return 0;
}
