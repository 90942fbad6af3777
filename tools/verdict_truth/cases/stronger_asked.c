/* It asks for AVX-512, and without that it uses the feature. */
#include "case.h"

__attribute__((noinline, target("avx512f"))) static int better(int number) {
    __asm__ volatile("vpaddd %%zmm1, %%zmm1, %%zmm1" ::: "xmm1");
    return 3 * number + 1;
}

static int has;

int main(void) {
    __builtin_cpu_init();
    has = __builtin_cpu_supports("avx512f") != 0;
    printf("%d\n", has ? better(start) : fast(start));
    return 0;
}
