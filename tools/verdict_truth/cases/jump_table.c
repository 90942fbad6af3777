/* A switch comes to the use by a table of jumps. */
#include "case.h"

SLOW static int by_number(int number) {
    switch (number) {
    case 0: return 5;
    case 1: return slow(2);
    case 2: return 88;
    case 3: return slow(4);
    case 4: return -9;
    case 5: return 1000;
    case 7: return fast(number);
    default: return 17;
    }
}

int main(void) {
    printf("%d\n", by_number(start));
    return 0;
}
