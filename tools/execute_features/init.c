/* The first process of a guest: load the modules of the initial RAM disk, mount the host's root over 9p, run commands.
 *
 * /modules/00, 01, ... are loaded in this order; /commands has a command a line: the program, then its arguments,
 * which it finds in the host's root. What they print goes to the console. Then the guest is switched off.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void load_modules(void) {
    char path[32];
    for (int number = 0;; number++) {
        snprintf(path, sizeof path, "/modules/%02d", number);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return;
        if (syscall(SYS_finit_module, file, "", 0)) perror(path);
        close(file);
    }
}

static void run(char *line) {
    char *arguments[16] = {0};
    char *rest = line;
    for (int count = 0; count < 15 && (arguments[count] = strsep(&rest, " ")); count++);
    printf("\n=== %s\n", arguments[0]);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("\n=== ended with %d\n", status);
    fflush(stdout);
}

int main(void) {
    load_modules();
    static char commands[4096];
    int file = open("/commands", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, commands, sizeof commands - 1) < 0) perror("/commands");
    if (mount("root", "/host", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=262144")) perror("9p");
    if (chroot("/host") || chdir("/")) perror("/host");
    if (mount("proc", "/proc", "proc", 0, "")) perror("/proc");
    if (mount("sysfs", "/sys", "sysfs", 0, "")) perror("/sys");
    if (mount("dev", "/dev", "devtmpfs", 0, "")) perror("/dev");
    char *rest = commands;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line) run(line);
    reboot(RB_POWER_OFF);
}
