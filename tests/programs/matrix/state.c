/* What goes wrong when functions are there several times: identity, state, order. Prints the same on every machine. */
#include <stdio.h>
#include <stdlib.h>

typedef double operation(double, double);

static int calls;
double weights[64];

static double add(double a, double b) { calls++; return a + b; }
static double scale(double a, double b) { calls++; return a * b; }

/* Data that holds addresses of local functions, and of one that others can see. */
double blend(double a, double b) { calls++; return a + (b - a) * 0.5; }
operation *const operations[] = {add, scale, blend};

static int which(operation *wanted) {
    for (int i = 0; i < 3; i++)
        if (operations[i] == wanted) return i;
    return -1;
}

/* Recursion, and a call between functions that others can see. */
unsigned long long fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
int is_odd(unsigned n);
int is_even(unsigned n) { return n == 0 || is_odd(n - 1); }
int is_odd(unsigned n) { return n != 0 && is_even(n - 1); }

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static unsigned next(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

__attribute__((constructor)) static void fill(void) {
    for (int i = 0; i < 64; i++) weights[i] = next() % 1000;
}

/* A struct by value, floating point and pointers: every class of argument. */
struct vector { double x, y, z; };
struct vector cross(struct vector a, struct vector b, float factor, char *trace) {
    sprintf(trace, "%g", factor);
    return (struct vector){(a.y * b.z - a.z * b.y) * factor, (a.z * b.x - a.x * b.z) * factor, (a.x * b.y - a.y * b.x) * factor};
}

int main(int count, char **arguments) {
    double sum = 0;
    for (int i = 0; i < 64; i++) sum = operations[i % 2](sum, i % 2 ? 0.5 : weights[i]);
    printf("%d %d %d %d\n", which(add), which(scale), which(blend), which(operations[(unsigned)count % 3]));
    printf("%.6f %d\n", sum, calls);
    qsort(weights, 64, sizeof *weights, by_size);
    for (int i = 0; i < 64; i += 7) printf("%g ", weights[i]);
    printf("\n%llu %d %d\n", fibonacci(20), is_even(100), is_odd(100));
    char trace[32];
    struct vector turned = cross((struct vector){1, 2, 3}, (struct vector){4, 5, 6}, 2.5f, trace);
    printf("%g %g %g %s %d\n", turned.x, turned.y, turned.z, trace, arguments[count] == NULL);
    return 0;
}
