/* Run an instruction of each feature, and print what became of it.
 *
 * "guard NAME 1": detection as cpufeat emits it into programs finds the feature usable.
 * "run NAME SIGNAL RESULT": the signal that ended the instructions, 0 if none did, and what they left in a register.
 *
 * With an argument, permission to use AMX is requested first (Linux, Documentation/arch/x86/xstate.rst).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA 18

void features(unsigned char *found);

#define PROBE(name) unsigned run_##name(void *memory);
#define GUARD(name)
#include "names.h"
#undef PROBE
#undef GUARD

static const struct probe {
    const char *name;
    unsigned (*run)(void *memory);
} probes[] = {
#define PROBE(name) {#name, run_##name},
#define GUARD(name)
#include "names.h"
#undef PROBE
#undef GUARD
};

static const char *const guarded[] = {
#define PROBE(name)
#define GUARD(name) #name,
#include "names.h"
};

static _Alignas(4096) unsigned char memory[4 * 4096];
static sigjmp_buf before;

static void caught(int number) { siglongjmp(before, number); }

static void run(const struct probe *probe) {
    memset(memory, 0, sizeof memory);
    volatile unsigned result = 0;
    int number = sigsetjmp(before, 1);
    if (!number) result = probe->run(memory);
    printf("run %s %d %u\n", probe->name, number, result);
    fflush(stdout);
}

int main(int count, char **arguments) {
    (void)arguments;
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], caught);
#ifdef __x86_64__
    if (count > 1) syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA);
#else
    (void)count;
#endif
    unsigned char found[sizeof guarded / sizeof *guarded];
    features(found);
    for (unsigned i = 0; i < sizeof found; i++) printf("guard %s %d\n", guarded[i], found[i]);
    for (unsigned i = 0; i < sizeof probes / sizeof *probes; i++) run(&probes[i]);
    return 0;
}
