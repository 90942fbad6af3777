#include "kernels.h"

/* Arithmetic in place of a table: A-Z, a-z, 0-9, '+' and '/' (RFC 4648, table 1). */
static char letter(uint32_t six_bits) {
    uint32_t code = six_bits + 'A';
    code += six_bits >= 26 ? 'a' - 'Z' - 1 : 0;
    code += six_bits >= 52 ? '0' - 'z' - 1 : 0;
    code += six_bits >= 62 ? '+' - '9' - 1 : 0;
    code += six_bits >= 63 ? '/' - '+' - 1 : 0;
    return (char)code;
}

size_t base64(char *restrict text, const uint8_t *restrict bytes, size_t count) {
    size_t whole = count / 3, rest = count % 3;
    for (size_t i = 0; i < whole; i++) {
        uint32_t bits = (uint32_t)bytes[3 * i] << 16 | (uint32_t)bytes[3 * i + 1] << 8 | bytes[3 * i + 2];
        for (int j = 0; j < 4; j++) text[4 * i + j] = letter(bits >> (18 - 6 * j) & 63);
    }
    if (rest == 0) return 4 * whole;
    uint32_t bits = (uint32_t)bytes[3 * whole] << 16 | (rest == 2 ? (uint32_t)bytes[3 * whole + 1] << 8 : 0);
    text[4 * whole] = letter(bits >> 18 & 63);
    text[4 * whole + 1] = letter(bits >> 12 & 63);
    text[4 * whole + 2] = rest == 2 ? letter(bits >> 6 & 63) : '=';
    text[4 * whole + 3] = '=';
    return 4 * whole + 4;
}
