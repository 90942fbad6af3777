/* It uses the feature where it is missing, too: the answer is looked at the wrong way round. */
#include "case.h"

int main(void) {
    printf("%d\n", asks_libgcc() ? slow(start) : fast(start));
    return 0;
}
