/* It uses the feature without asking. */
#include "case.h"

int main(void) {
    printf("%d\n", fast(start));
    return 0;
}
