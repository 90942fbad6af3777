/* A handler of exceptions uses the feature. */
#include "case.h"

int main() {
    int result = 0;
    try {
        if (start)
            throw start;
    } catch (int number) {
        result = fast(number);
    }
    printf("%d\n", result);
    return 0;
}
