/* Ways by which dyld or the unwinder comes to code that nothing calls. The names say what an audit must answer. */

#ifdef __x86_64__
#define INSTRUCTION "vpaddd %ymm0, %ymm0, %ymm0\n vzeroupper"
int bits(void) { int a, b, c, d; __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(7), "2"(0)); return b; }
#define CAN (bits() & 1 << 5)
#else
typedef unsigned long size_t;
int sysctlbyname(const char *, void *, size_t *, void *, size_t);
#define INSTRUCTION ".arch_extension sve\n add z0.s, z0.s, z1.s"
#define CAN ({ int answer = 0; size_t size = sizeof answer; sysctlbyname("hw.optional.arm.FEAT_SME", &answer, &size, 0, 0); answer; })
#endif
#define NEEDS(name) __attribute__((used, noinline)) static void name(void) { __asm__ volatile(INSTRUCTION); }
#define POINTER(section_name, name) \
    __attribute__((used, section(section_name))) static void (*const pointer_to_##name)(void) = name;

NEEDS(checked_call)
NEEDS(load_initialiser)
POINTER("__DATA,__mod_init_func,mod_init_funcs", load_initialiser)
NEEDS(bare_finaliser)
POINTER("__DATA,__mod_term_func,mod_term_funcs", bare_finaliser)
NEEDS(load_called)
static volatile int number;
__attribute__((constructor)) static void constructor(void) { number--; load_called(); number += 3; }

NEEDS(bare_thread)
static __thread void (*volatile of_thread)(void) = bare_thread;
void call_of_thread(void) { of_thread(); }

NEEDS(bare_table)
void (*const exported_table[2])(void) = {0, bare_table};

NEEDS(bare_class)
POINTER("__DATA,__objc_classlist,regular,no_dead_strip", bare_class)

__attribute__((noinline)) void check(void) { if (CAN) checked_call(); }

#ifdef PROGRAM
int main(int count, char **arguments) {
    if (count > 5) check();
    return 0;
}
#endif
