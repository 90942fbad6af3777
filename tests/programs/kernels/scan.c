#include "kernels.h"

enum { BLOCK = 64 };

/* Whole blocks are searched without a branch inside, so that a block is a few vector compares. */
static int holds(const uint8_t *block, uint8_t wanted) {
    uint8_t found = 0;
    for (size_t i = 0; i < BLOCK; i++) found |= block[i] == wanted;
    return found;
}

const uint8_t *scan(const uint8_t *begin, const uint8_t *end, uint8_t wanted) {
    while (end - begin >= BLOCK && !holds(begin, wanted)) begin += BLOCK;
    while (begin != end && *begin != wanted) begin++;
    return begin;
}
