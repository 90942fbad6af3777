/* What there is only on 64-bit Arm Linux; see cases.c. */

#define USES(name) __attribute__((noinline, used)) static void name(void) { __asm__ volatile(".arch_extension sve\n add z0.s, z0.s, z1.s"); }
unsigned long getauxval(unsigned long);
static volatile int condition;

/* By the compiler's support library, by an ID register, and by what tells other things. */
USES(guarded_builtin)
void builtin(void) { if (__builtin_cpu_supports("sve")) guarded_builtin(); }
USES(guarded_register)
USES(bare_processor_number)
void registers(void) {
    unsigned long features, number;
    __asm__("mrs %0, ID_AA64PFR0_EL1" : "=r"(features));
    __asm__("mrs %0, MPIDR_EL1" : "=r"(number));
    if (features >> 32 & 15) guarded_register();
    if (number & 15) bare_processor_number();
}
USES(bare_page_size)
USES(bare_secure)
USES(bare_asked_anything)
void others(unsigned long which) {
    if (getauxval(6) == 65536) bare_page_size();
    if (!getauxval(23)) bare_secure();
    if (getauxval(which) & 1 << 22) bare_asked_anything();
}
/* An answer that is handed to a function, and what that makes of it; and one that it makes of something else. */
__attribute__((noinline)) static int has(unsigned long capabilities) { return (capabilities & 1 << 22) != 0; }
__attribute__((noinline)) static int hands_on(int other, unsigned long capabilities) { condition = other; return has(capabilities); }
__attribute__((noinline)) static int makes_of_other(int other, unsigned long capabilities) { condition = capabilities; return other; }
USES(guarded_argument)
USES(guarded_handed_argument)
USES(bare_other_argument)
void argument(int other) {
    if (has(getauxval(16))) guarded_argument();
    if (hands_on(other, getauxval(16))) guarded_handed_argument();
    if (makes_of_other(other, getauxval(16))) bare_other_argument();
}
/* The resolver that compilers make for versions of a function. */
extern struct { unsigned long long features; } __aarch64_cpu_features;
void __init_cpu_features_resolver(unsigned long, const void *);
static void plain(void) { condition++; }
USES(guarded_version)
static void (*version(unsigned long hwcap, const void *more))(void) {
    __init_cpu_features_resolver(hwcap, more);
    return __aarch64_cpu_features.features >> 30 & 1 ? guarded_version : plain;
}
void versioned(void) __attribute__((ifunc("version")));

/* What the loader hands a resolver beside AT_HWCAP. */
struct arguments { unsigned long size, hwcap, hwcap2; };
USES(guarded_second_word)
static void (*choose(unsigned long hwcap, const struct arguments *more))(void) {
    return hwcap & 1ul << 62 && more->size > 16 && more->hwcap2 & 2 ? guarded_second_word : plain;
}
void second(void) __attribute__((ifunc("choose")));
