/* It asks libgcc. */
#include "case.h"

int main(void) {
    printf("%d\n", asks_libgcc() ? fast(start) : slow(start));
    return 0;
}
