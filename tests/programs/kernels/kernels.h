/* Plain C with no intrinsics: what the machine code uses is up to the compiler and its target. */
#include <stddef.h>
#include <stdint.h>

float dot_float(const float *left, const float *right, size_t count);
double dot_double(const double *left, const double *right, size_t count);

/* The first byte equal to `wanted`, or `end`. */
const uint8_t *scan(const uint8_t *begin, const uint8_t *end, uint8_t wanted);

/* product = left * right, all of them size x size, by rows; product must be zero at first. */
void multiply(double *product, const double *left, const double *right, size_t size);

/* Writes 4 characters for every 3 bytes, with padding; returns how many. */
size_t base64(char *text, const uint8_t *bytes, size_t count);

/* The bits that are set in all words. */
uint64_t population(const uint64_t *words, size_t count);
