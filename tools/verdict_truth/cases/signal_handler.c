/* A handler of a signal uses the feature. */
#include "case.h"

#include <signal.h>

FAST static void handle(int number) {
    start = fast(number);
}

int main(void) {
    signal(SIGUSR1, handle);
    raise(SIGUSR1);
    printf("%d\n", start);
    return 0;
}
