/* A function that uses the feature is called back by the C library. */
#include "case.h"

FAST static int compare(const void *one, const void *other) {
    return fast(*(const int *)one) - fast(*(const int *)other);
}

int main(void) {
    int numbers[] = {3, start, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    printf("%d\n", numbers[0]);
    return 0;
}
