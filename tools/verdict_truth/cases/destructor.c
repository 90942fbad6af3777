/* A destructor uses the feature. */
#include "case.h"

__attribute__((destructor)) FAST static void end(void) {
    start = fast(start);
}

int main(void) {
    printf("%d\n", slow(start));
    return 0;
}
