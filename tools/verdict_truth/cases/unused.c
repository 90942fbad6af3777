/* A static function uses the feature, and nothing calls it. */
#include "case.h"

__attribute__((used)) FAST static int never(int number) {
    return fast(number);
}

int main(void) {
    printf("%d\n", slow(start));
    return 0;
}
