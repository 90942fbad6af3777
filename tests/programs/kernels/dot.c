#include "kernels.h"

/* Only where sums may be reordered can they be vectorized, and products fused. */
#pragma clang fp reassociate(on) contract(fast)

float dot_float(const float *left, const float *right, size_t count) {
    float sum = 0;
    for (size_t i = 0; i < count; i++) sum += left[i] * right[i];
    return sum;
}

double dot_double(const double *left, const double *right, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += left[i] * right[i];
    return sum;
}
