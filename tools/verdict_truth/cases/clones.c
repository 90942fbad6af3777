/* GCC makes two versions of a function, and the resolver. */
#include "case.h"

__attribute__((noinline, target_clones("default", SUPPORTS))) int sum(const int *numbers, int count) {
    int total = 0;
    for (int index = 0; index < count; index++)
        total += numbers[index] * numbers[index] >> 1;
    return total;
}

int main(void) {
    int numbers[64];
    for (int index = 0; index < 64; index++)
        numbers[index] = index * start;
    printf("%d\n", sum(numbers, 64));
    return 0;
}
