/* Ways to check, and not to check, before a feature is used. The name of each function says what an audit must answer of it:
   guarded_... is reached behind a check only, bare_... is not. Compiled for plain x86-64, so that only these need more. */

#include <cpuid.h>
#include <stdlib.h>

#ifdef __clang__
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noinline, noclone))
#endif
#define AVX2(name) ALONE __attribute__((used)) static void name(void) { __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0"); }
#define AVX2_EXPORTED(name) ALONE void name(void) { __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0"); }

static volatile int condition;

/* Called behind GCC's own check. */
AVX2(guarded_builtin)
AVX2(guarded_or)
AVX2(guarded_both)
static void deeper(void) { condition++; guarded_builtin(); }
static void builtin(void) {
    if (__builtin_cpu_supports("avx2")) deeper();
    if (__builtin_cpu_supports("avx512f") || __builtin_cpu_supports("avx2")) guarded_or();
    if (condition && __builtin_cpu_supports("avx2") && condition) guarded_both();
}

/* After the check, not behind it. */
AVX2(bare_after)
AVX2(bare_in_both)
static void after(void) {
    if (__builtin_cpu_supports("avx2")) condition++;
    bare_after();
    if (__builtin_cpu_supports("avx2")) { condition++; bare_in_both(); } else { condition--; bare_in_both(); }
}

/* Behind another condition, in a function that checks as well. */
AVX2(bare_other_condition)
static void other_condition(void) {
    if (condition) bare_other_condition();
    if (__builtin_cpu_supports("avx2")) condition++;
}

/* Either way needs AVX2, so neither is guarded. */
AVX2(bare_either)
AVX2(bare_or_this)
static void either(void) {
    if (__builtin_cpu_supports("avx512f")) bare_either(); else bare_or_this();
}

/* Check and use in one function. */
__attribute__((noinline, used)) static void guarded_inline(void) {
    if (__builtin_cpu_supports("avx2")) __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0");
    condition++;
}
__attribute__((noinline, used)) static void bare_inline(void) {
    if (__builtin_cpu_supports("avx2")) condition++;
    __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0");
}

/* A check of one's own: CPUID's answer in a variable, and in a set of flags. */
static int have_avx2;
static unsigned flags;
__attribute__((constructor)) static void ask(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    have_avx2 = b >> 5 & 1;
    if (b & 1 << 5) flags |= 4;
    if (b & 1 << 16) flags |= 8;
}
AVX2(guarded_variable)
AVX2(guarded_flags)
AVX2(guarded_early_return)
static void early(void) {
    if (!have_avx2) return;
    guarded_early_return();
}
static void own(void) {
    if (have_avx2) guarded_variable();
    if (flags & 4) guarded_flags();
    early();
}

/* Variables that follow from others: one that only a check sets, one that is counted up elsewhere as well. */
static int derived, counted;
AVX2(guarded_derived)
AVX2(bare_counted)
ALONE static void derive(void) { if (have_avx2 && condition == 0) derived = 1; }
ALONE static void count_up(void) { if (have_avx2) counted++; }
ALONE static void count_as_well(void) { counted++; }
static void follow(void) {
    derive();
    count_up();
    count_as_well();
    if (derived) guarded_derived();
    if (counted) bare_counted();
}

/* A function that asks, and one that hands on its answer. */
ALONE static int has_avx2(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? b >> 5 & 1 : 0;
}
ALONE static int fast_enough(void) { condition++; return has_avx2(); }
AVX2(guarded_result)
AVX2(guarded_handed_on)
static void result(void) {
    if (has_avx2()) guarded_result();
    if (fast_enough()) guarded_handed_on();
}

/* Through a pointer that is set behind a check; and through one that is not. */
static void plain(void) { condition++; }
AVX2(guarded_pointer)
AVX2(guarded_chosen)
AVX2(bare_pointer)
static void (*volatile pointer)(void) = plain;
static void (*volatile chosen)(void);
static void (*volatile unchecked)(void);
static void pointers(void) {
    if (__builtin_cpu_supports("avx2")) pointer = guarded_pointer;
    chosen = __builtin_cpu_supports("avx2") ? guarded_chosen : plain;
    unchecked = bare_pointer;
    pointer();
    chosen();
    unchecked();
}

/* Tables of pointers: one used behind a check only, one that anybody indexes. */
AVX2(guarded_table)
AVX2(bare_table)
static void (*const volatile behind[2])(void) = {plain, guarded_table};
static void (*const volatile open_to_all[2])(void) = {plain, bare_table};
static void tables(void) {
    if (__builtin_cpu_supports("avx2")) behind[condition & 1]();
    open_to_all[condition & 1]();
}

/* Both ways: a check here, and a call without one there. */
AVX2(bare_elsewhere)
static void both_ways(void) {
    if (__builtin_cpu_supports("avx2")) bare_elsewhere();
    if (condition) bare_elsewhere();
}

#ifdef __linux__
/* The loader's choice. */
AVX2(guarded_resolved)
static void (*resolve(void))(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? guarded_resolved : plain;
}
void resolved(void) __attribute__((ifunc("resolve")));
AVX2(bare_resolved)
static void (*resolve_at_once(void))(void) { return bare_resolved; }
void resolved_at_once(void) __attribute__((ifunc("resolve_at_once")));
static void ifuncs(void) { resolved(); resolved_at_once(); }
#endif

/* A switch between the check and the use, and the other way round. */
AVX2(guarded_switch)
AVX2(bare_switch)
static void switches(void) {
    switch (condition) {
    case 0: condition = 3; break;
    case 1: condition = 5; break;
    case 2: if (__builtin_cpu_supports("avx2")) guarded_switch(); break;
    case 3: bare_switch(); break;
    case 4: condition = 9; break;
    case 5: condition = 11; break;
    }
}

/* Nothing comes this way. */
AVX2(unused_code)

/* Other files may call what is exported. */
AVX2_EXPORTED(bare_exported)
AVX2_EXPORTED(guarded_exported)
static void exported(void) {
    if (__builtin_cpu_supports("avx2")) guarded_exported();
}

void all(void) {
    builtin(); after(); other_condition(); either(); guarded_inline(); bare_inline(); own(); follow(); result(); pointers(); tables();
    both_ways(); switches(); exported();
#ifdef __linux__
    ifuncs();
#endif
}
int main(void) { bare_exported(); all(); return 0; }
