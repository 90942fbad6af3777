/* Prints what every kernel makes of many sizes. The numbers are small, so that sums are exact in any order. */
#include <stdio.h>
#include "kernels.h"

enum { MOST = 130, SIZE = 9 };

int main(void) {
    static float floats[MOST];
    static double doubles[MOST], product[SIZE * SIZE];
    static uint64_t words[MOST];
    static uint8_t bytes[MOST];
    static char text[2 * MOST];
    for (uint32_t i = 0; i < MOST; i++) {
        uint32_t random = (i + 1) * 2654435761u;
        floats[i] = (float)(random >> 28);
        doubles[i] = (double)(random >> 26);
        words[i] = (uint64_t)random * random;
        bytes[i] = (uint8_t)(random >> 24);
    }
    for (size_t n = 0; n < MOST; n++) {
        const uint8_t *found = scan(bytes, bytes + n, bytes[n]);
        size_t length = base64(text, bytes, n);
        printf("%d %d ", (int)dot_float(floats, floats, n), (int)dot_double(doubles, doubles, n));
        printf("%d %d %.*s\n", (int)(found - bytes), (int)population(words, n), (int)length, text);
    }
    multiply(product, doubles, doubles + SIZE, SIZE);
    for (size_t i = 0; i < SIZE * SIZE; i++) printf("%d\n", (int)product[i]);
    return 0;
}
