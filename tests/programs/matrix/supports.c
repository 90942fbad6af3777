/* Prints, a line each, what libgcc finds on this CPU: the names are GCC's. */
#include <stdio.h>

#define ASK(name) \
    if (__builtin_cpu_supports(name)) puts(name);

int main(void) {
    ASK("x86-64") ASK("x86-64-v2") ASK("x86-64-v3") ASK("x86-64-v4")
    ASK("adx") ASK("aes") ASK("avx") ASK("avx2") ASK("avx512bw") ASK("avx512cd") ASK("avx512dq") ASK("avx512f") ASK("avx512vl")
    ASK("bmi") ASK("bmi2") ASK("cmpxchg16b") ASK("f16c") ASK("fma") ASK("fsgsbase") ASK("lahf_lm") ASK("lzcnt") ASK("movbe")
    ASK("pclmul") ASK("popcnt") ASK("sse3") ASK("sse4.1") ASK("sse4.2") ASK("sse4a") ASK("ssse3")
    return 0;
}
