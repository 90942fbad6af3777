/* Ways by which the loader, the C library or the unwinder come to code that nothing calls. The name of each function says
   what an audit must answer of it. -DONLY=WAY makes a program with that way alone, which dies where the feature is missing. */

#include <stdlib.h>
#ifdef __x86_64__
#define CAN __builtin_cpu_supports("avx2")
#define INSTRUCTION "vpaddd %ymm0, %ymm0, %ymm0\n vzeroupper"
#define WORD ".quad "
#else
unsigned long getauxval(unsigned long);
#define CAN (getauxval(16) & 1 << 22)
#define INSTRUCTION ".arch_extension sve\n add z0.s, z0.s, z1.s"
#define WORD ".xword "
#endif

#define INITIALISER 1
#define CONSTRUCTOR 2
#define DESTRUCTOR 3
#define PREINITIALISER 4
#define THREAD 5
#define RESOLVER 6
#define PERSONALITY 7
#define DATA 8
#define ENTRY_CODE 9
#ifdef ONLY
#define WITH(way) (ONLY == way)
#else
#define WITH(way) (way != PREINITIALISER || defined(PROGRAM))
#endif

#define NEEDS(name) __attribute__((used, noinline)) static void name(void) { __asm__ volatile(INSTRUCTION); }
#define POINTER(section, name) __asm__(".pushsection " section "\n .balign 8\n " WORD #name "\n .popsection");

NEEDS(checked_call)

#if WITH(INITIALISER)
NEEDS(load_initialiser)
POINTER(".init_array, \"aw\"", load_initialiser)
#endif
#if WITH(CONSTRUCTOR)
static volatile int number;
__attribute__((used, noinline)) static void load_called(void) { number++; __asm__ volatile(INSTRUCTION); }
__attribute__((constructor(200))) static void constructor(void) { number--; load_called(); number += 3; }
#endif
#if WITH(DESTRUCTOR)
NEEDS(bare_finaliser)
POINTER(".fini_array, \"aw\"", bare_finaliser)
#endif
#if WITH(PREINITIALISER)
NEEDS(load_preinitialiser)
POINTER(".preinit_array, \"aw\"", load_preinitialiser)
#endif
#if WITH(ENTRY_CODE)
__asm__(".pushsection .init, \"ax\"\n entry_code: " INSTRUCTION "\n .popsection");
#endif

#if WITH(THREAD)
NEEDS(bare_thread)
static __thread void (*volatile of_thread)(void) = bare_thread;
void call_of_thread(void) { of_thread(); }
#endif

#if WITH(RESOLVER) && defined(__GLIBC__)
static void plain(void) {}
__attribute__((used)) static void (*load_resolver(void))(void) { __asm__ volatile(INSTRUCTION); return plain; }
void resolved(void) __attribute__((ifunc("load_resolver")));
#endif

#if WITH(PERSONALITY)
NEEDS(bare_personality)
__asm__(".pushsection .text\n throws: .cfi_startproc\n .cfi_personality 0x9b, pointer_to_personality\n ret\n .cfi_endproc\n"
        ".popsection\n .pushsection .data.rel.ro, \"aw\"\n .balign 8\n pointer_to_personality: " WORD "bare_personality\n"
        ".popsection");
#endif

#if WITH(DATA)
NEEDS(bare_table)
void (*const exported_table[2])(void) = {0, bare_table};
/* Only the first pointer has a symbol; the code that names it is behind a check. */
NEEDS(bare_nameless)
__asm__(".pushsection .data.rel.ro, \"aw\"\n .balign 8\n .type short_table, %object\n .size short_table, 8\n"
        "short_table: " WORD "checked_call\n " WORD "bare_nameless\n .popsection");
extern void (*short_table[])(void) __attribute__((visibility("hidden")));
#endif

__attribute__((noinline)) void check(void) {
    if (CAN) checked_call();
#if WITH(DATA)
    if (CAN) short_table[0]();
#endif
}

#if defined(PROGRAM)
int main(int count, char **arguments) {
    if (count > 5) check();
#if WITH(THREAD)
    call_of_thread();
#endif
#if WITH(RESOLVER) && defined(__GLIBC__)
    resolved();
#endif
#if WITH(DATA)
    exported_table[1]();
#endif
    return 0;
}
#endif
