#include "kernels.h"

void multiply(double *restrict product, const double *restrict left, const double *restrict right, size_t size) {
#pragma clang fp contract(fast)
    for (size_t row = 0; row < size; row++)
        for (size_t inner = 0; inner < size; inner++)
            for (size_t column = 0; column < size; column++)
                product[row * size + column] += left[row * size + inner] * right[inner * size + column];
}
