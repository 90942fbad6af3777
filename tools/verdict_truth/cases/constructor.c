/* A constructor uses the feature; nothing else does. */
#include "case.h"

static int made;

__attribute__((constructor)) FAST static void make(void) {
    made = fast(start);
}

int main(void) {
    printf("%d\n", made);
    return 0;
}
