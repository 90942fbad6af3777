/* The constructor of a global object uses the feature. */
#include "case.h"

struct Made {
    int number;
    FAST Made() : number(fast(start)) {}
};
static Made made;

int main() {
    printf("%d\n", made.number);
    return 0;
}
