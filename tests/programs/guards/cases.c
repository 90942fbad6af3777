/* Ways to check, and not to check, before a feature is used. The name of each function says what an audit must answer of it:
   guarded_... is reached behind a check only, bare_... is not. Compiled for the baseline, so that only these need more. */

#include <stdlib.h>
#ifdef __x86_64__
#include <cpuid.h>
#define CAN __builtin_cpu_supports("avx2")
#define CAN_MORE __builtin_cpu_supports("avx512f")
#define INSTRUCTION "vpaddd %ymm0, %ymm0, %ymm0"
#define BIT (1u << 5)
#define OTHER_BIT (1u << 16)
__attribute__((always_inline)) static inline unsigned asked(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? b : 0;
}
#define RESOLVER(name) static void (*name(void))(void)
#define CAN_RESOLVED (__builtin_cpu_init(), CAN)
#else
#define BIT (1u << 22)
#define OTHER_BIT (1u << 20)
#define INSTRUCTION ".arch_extension sve\n add z0.s, z0.s, z1.s"
#if defined(_WIN32)
int __stdcall IsProcessorFeaturePresent(unsigned);
#define CAN IsProcessorFeaturePresent(46)
#define CAN_MORE IsProcessorFeaturePresent(47)
#elif defined(__APPLE__)
int sysctlbyname(const char *, void *, size_t *, void *, size_t);
#define named(name) ({ int answer = 0; size_t size = sizeof answer; sysctlbyname(name, &answer, &size, 0, 0); answer; })
#define CAN named("hw.optional.arm.FEAT_SME")
#define CAN_MORE named("hw.optional.arm.FEAT_SME2")
#elif defined(__FreeBSD__)
int elf_aux_info(int, void *, int);
#define told(number) ({ unsigned long answer = 0; elf_aux_info(number, &answer, sizeof answer); answer; })
#define CAN (told(25) & BIT)
#define CAN_MORE (told(26) & 2)
#else
unsigned long getauxval(unsigned long);
#define CAN (getauxval(16) & BIT)
#define CAN_MORE (getauxval(26) & 2)
#endif
__attribute__((always_inline)) static inline unsigned asked(void) { return (CAN ? BIT : 0) | (CAN_MORE ? OTHER_BIT : 0); }
#define RESOLVER(name) static void (*name(unsigned long hwcap))(void)
#define CAN_RESOLVED (hwcap & BIT)
#endif

#ifdef __clang__
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noinline, noclone))
#endif
#define NEEDS(name) ALONE __attribute__((used)) static void name(void) { __asm__ volatile(INSTRUCTION); }
#define NEEDS_EXPORTED(name) ALONE void name(void) { __asm__ volatile(INSTRUCTION); }

static volatile int condition;

/* Called behind GCC's own check. */
NEEDS(guarded_builtin)
NEEDS(guarded_or)
NEEDS(guarded_both)
static void deeper(void) { condition++; guarded_builtin(); }
static void builtin(void) {
    if (CAN) deeper();
    if (CAN_MORE || CAN) guarded_or();
    if (condition && CAN && condition) guarded_both();
}

/* After the check, not behind it. */
NEEDS(bare_after)
NEEDS(bare_in_both)
static void after(void) {
    if (CAN) condition++;
    bare_after();
    if (CAN) { condition++; bare_in_both(); } else { condition--; bare_in_both(); }
}

/* Behind another condition, in a function that checks as well. */
NEEDS(bare_other_condition)
static void other_condition(void) {
    if (condition) bare_other_condition();
    if (CAN) condition++;
}

/* Either way needs it, so neither is guarded. */
NEEDS(bare_either)
NEEDS(bare_or_this)
static void either(void) {
    if (CAN_MORE) bare_either(); else bare_or_this();
}

/* Check and use in one function. */
__attribute__((noinline, used)) static void guarded_inline(void) {
    if (CAN) __asm__ volatile(INSTRUCTION);
    condition++;
}
__attribute__((noinline, used)) static void bare_inline(void) {
    if (CAN) condition++;
    __asm__ volatile(INSTRUCTION);
}

/* A check of one's own: an answer in a variable, and in a set of flags. */
static int have;
static unsigned flags;
__attribute__((constructor)) static void ask(void) {
    unsigned answer = asked();
    if (!answer) return;
    have = (answer & BIT) != 0;
    if (answer & BIT) flags |= 4;
    if (answer & OTHER_BIT) flags |= 8;
}
NEEDS(guarded_variable)
NEEDS(guarded_flags)
NEEDS(guarded_early_return)
static void early(void) {
    if (!have) return;
    guarded_early_return();
}
static void own(void) {
    if (have) guarded_variable();
    if (flags & 4) guarded_flags();
    early();
}

/* Variables that follow from others: one that only a check sets, one that is counted up elsewhere as well. */
static int derived, counted;
NEEDS(guarded_derived)
NEEDS(bare_counted)
ALONE static void derive(void) { if (have && condition == 0) derived = 1; }
ALONE static void count_up(void) { if (have) counted++; }
ALONE static void count_as_well(void) { counted++; }
static void follow(void) {
    derive();
    count_up();
    count_as_well();
    if (derived) guarded_derived();
    if (counted) bare_counted();
}

/* A function that asks, and one that hands on its answer. */
ALONE static int has_it(void) {
    return (asked() & BIT) != 0;
}
ALONE static int fast_enough(void) { condition++; return has_it(); }
NEEDS(guarded_result)
NEEDS(guarded_handed_on)
static void result(void) {
    if (has_it()) guarded_result();
    if (fast_enough()) guarded_handed_on();
}

/* Through a pointer that is set behind a check; and through one that is not. */
static void plain(void) { condition++; }
NEEDS(guarded_pointer)
NEEDS(guarded_chosen)
NEEDS(bare_pointer)
static void (*volatile pointer)(void) = plain;
static void (*volatile chosen)(void);
static void (*volatile unchecked)(void);
static void pointers(void) {
    if (CAN) pointer = guarded_pointer;
    chosen = CAN ? guarded_chosen : plain;
    unchecked = bare_pointer;
    pointer();
    chosen();
    unchecked();
}

/* Tables of pointers: one used behind a check only, one that anybody indexes. */
NEEDS(guarded_table)
NEEDS(bare_table)
static void (*const volatile behind[2])(void) = {plain, guarded_table};
static void (*const volatile open_to_all[2])(void) = {plain, bare_table};
static void tables(void) {
    if (CAN) behind[condition & 1]();
    open_to_all[condition & 1]();
}

/* Both ways: a check here, and a call without one there. */
NEEDS(bare_elsewhere)
static void both_ways(void) {
    if (CAN) bare_elsewhere();
    if (condition) bare_elsewhere();
}

#ifdef __GLIBC__
/* The loader's choice. */
NEEDS(guarded_resolved)
RESOLVER(resolve) { return CAN_RESOLVED ? guarded_resolved : plain; }
void resolved(void) __attribute__((ifunc("resolve")));
NEEDS(bare_resolved)
RESOLVER(resolve_at_once) { return bare_resolved; }
void resolved_at_once(void) __attribute__((ifunc("resolve_at_once")));
static void ifuncs(void) { resolved(); resolved_at_once(); }
#endif

/* A switch between the check and the use, and the other way round. */
NEEDS(guarded_switch)
NEEDS(bare_switch)
static void switches(void) {
    switch (condition) {
    case 0: condition = 3; break;
    case 1: condition = 5; break;
    case 2: if (CAN) guarded_switch(); break;
    case 3: bare_switch(); break;
    case 4: condition = 9; break;
    case 5: condition = 11; break;
    }
}

/* Nothing comes this way. */
NEEDS(unused_code)

/* Other files may call what is exported. */
NEEDS_EXPORTED(bare_exported)
NEEDS_EXPORTED(guarded_exported)
static void exported(void) {
    if (CAN) guarded_exported();
}

void all(void) {
    builtin(); after(); other_condition(); either(); guarded_inline(); bare_inline(); own(); follow(); result(); pointers(); tables();
    both_ways(); switches(); exported();
#ifdef __GLIBC__
    ifuncs();
#endif
}
int main(void) { bare_exported(); all(); return 0; }
