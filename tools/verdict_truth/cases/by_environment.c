/* An environment variable, which is not set, chooses the fast function. */
#include "case.h"

int main(void) {
    printf("%d\n", getenv("CASE_OF_CPUFEAT") ? fast(start) : slow(start));
    return 0;
}
