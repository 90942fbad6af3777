/* It asks CPUID itself. */
#include "case.h"

int main(void) {
    printf("%d\n", asks_cpuid() ? fast(start) : slow(start));
    return 0;
}
