/* The answer is handed on as an argument. */
#include "case.h"

SLOW static int work(int has, int number) {
    return has ? fast(number) : slow(number);
}

int main(void) {
    int has = asks_cpuid();
    printf("%d\n", work(has, start) + work(has, 2));
    return 0;
}
