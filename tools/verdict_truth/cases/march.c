/* Loops, compiled for a CPU (-march): no feature is asked for. */
#include <stdio.h>

static volatile int start = 7;

int main(void) {
    int numbers[256], factor = start;
    double sum = 0;
    unsigned bits = 0;
    for (int index = 0; index < 256; index++)
        numbers[index] = index * factor * (index - 3);
    for (int index = 0; index < 256; index++)
        sum += numbers[index] * 0.5;
    for (int index = 0; index < 256; index++)
        bits += __builtin_popcount(numbers[index] * 5);
    printf("%.1f %u\n", sum, bits);
    return 0;
}
