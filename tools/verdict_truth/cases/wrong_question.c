/* It asks for SSE2, and uses the feature. */
#include "case.h"

int main(void) {
    __builtin_cpu_init();
    printf("%d\n", __builtin_cpu_supports("sse2") ? fast(start) : slow(start));
    return 0;
}
