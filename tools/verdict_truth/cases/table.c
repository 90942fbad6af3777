/* A table of functions, of which a number from outside chooses one: the fast one. */
#include "case.h"

static int (*const functions[])(int) = {slow, fast};

int main(int count, char **arguments) {
    printf("%d\n", functions[(count > 0 || !arguments) & 1](start));
    return 0;
}
