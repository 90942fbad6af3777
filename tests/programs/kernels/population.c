#include "kernels.h"

uint64_t population(const uint64_t *words, size_t count) {
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) bits += (uint64_t)__builtin_popcountll(words[i]);
    return bits;
}
