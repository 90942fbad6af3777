/*
 * Runs every kernel on many sizes and alignments, with the data before a page that may not be touched, and compares it with
 * the plainest code that does the same. Exits with 0, or prints the kernel that is wrong and exits with 1.
 *
 * Sums of products of small integers are exact in any order, so floating-point results must be equal. There is no C library:
 * the program must run on whatever the kernels run on.
 */
#include "kernels.h"

/* SLACK: QEMU 7.2 reads 16 bytes where a scalar FMA has an operand of 4 in memory. */
enum { PAGE = 4096, MOST = 300, SLACK = 16 };
enum { WRITE = 1, MMAP = 9, MPROTECT = 10, EXIT = 60 };
enum { READ_AND_WRITE = 3, PRIVATE_AND_ANONYMOUS = 0x22 };

/* A system call of x86-64 Linux; the last two arguments are those of an anonymous mapping. */
static long call(long number, long first, long second, long third, long fourth) {
    register long r10 __asm__("r10") = fourth, r8 __asm__("r8") = -1, r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

/* Compilers call this one by themselves. */
void *memset(void *start, int value, size_t size) {
    for (size_t i = 0; i < size; i++) ((volatile char *)start)[i] = (char)value;
    return start;
}

static uint32_t state = 1;

static uint32_t any(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

/* Memory of `size` bytes (less than a page), soon after which a page begins that may not be touched. */
static void *before_the_end(size_t size) {
    long pages = call(MMAP, 0, 2 * PAGE, READ_AND_WRITE, PRIVATE_AND_ANONYMOUS);
    call(MPROTECT, pages + PAGE, PAGE, 0, 0);
    return (char *)pages + PAGE - SLACK - size;
}

static int dots(size_t count) {
    float *a = before_the_end(count * sizeof *a), *b = before_the_end(count * sizeof *b);
    double *c = before_the_end(count * sizeof *c), *d = before_the_end(count * sizeof *d);
    long sum = 0;
    for (size_t i = 0; i < count; i++) {
        a[i] = c[i] = (int)any(64) - 32;
        b[i] = d[i] = (int)any(64) - 32;
        sum += (long)c[i] * (long)d[i];
    }
    return dot_float(a, b, count) == (float)sum && dot_double(c, d, count) == (double)sum;
}

static int scans(size_t count) {
    uint8_t *bytes = before_the_end(count);
    memset(bytes, 'a', count);
    if (scan(bytes, bytes + count, 'b') != bytes + count) return 0;
    for (size_t at = count; at-- > 0;) {
        bytes[at] = 'b';
        if (scan(bytes, bytes + count, 'b') != bytes + at) return 0;
    }
    return 1;
}

static int products(size_t count) {
    size_t size = count % 20;
    double *a = before_the_end(size * size * sizeof *a), *b = before_the_end(size * size * sizeof *b);
    double *c = before_the_end(size * size * sizeof *c);
    for (size_t i = 0; i < size * size; i++) {
        a[i] = (int)any(64) - 32;
        b[i] = (int)any(64) - 32;
    }
    multiply(c, a, b, size);
    for (size_t row = 0; row < size; row++)
        for (size_t column = 0; column < size; column++) {
            long sum = 0;
            for (size_t i = 0; i < size; i++) sum += (long)a[row * size + i] * (long)b[i * size + column];
            if (c[row * size + column] != (double)sum) return 0;
        }
    return 1;
}

static int encodings(size_t count) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *bytes = before_the_end(count);
    size_t length = (count + 2) / 3 * 4;
    char *text = before_the_end(length);
    for (size_t i = 0; i < count; i++) bytes[i] = (uint8_t)any(256);
    if (base64(text, bytes, count) != length) return 0;
    for (size_t i = 0; i < length; i++) {
        size_t bit = 6 * (i / 4 * 4) + 6 * (i % 4), six = 0;
        for (size_t j = bit; j < bit + 6; j++) six = 2 * six + (j / 8 < count ? bytes[j / 8] >> (7 - j % 8) & 1 : 0);
        if (text[i] != (bit < 8 * count ? alphabet[six] : '=')) return 0;
    }
    return 1;
}

static int populations(size_t count) {
    uint64_t *words = before_the_end(count * sizeof *words), bits = 0;
    memset(words, 0, count * sizeof *words);
    for (size_t i = 0; i < count * 64; i++)
        if (any(2)) words[i / 64] |= 1ull << i % 64, bits++;
    return population(words, count) == bits;
}

static int is_right(int (*kernel)(size_t), const char *name) {
    for (size_t count = 0; count < MOST; count++)
        if (!kernel(count)) {
            call(WRITE, 1, (long)name, 8, 0);
            return 0;
        }
    return 1;
}

__attribute__((force_align_arg_pointer)) void _start(void) {
    int right = is_right(dots, "dot     ") & is_right(scans, "scan    ") & is_right(products, "product ") &
                is_right(encodings, "base64  ") & is_right(populations, "popcount");
    call(EXIT, !right, 0, 0, 0);
}
