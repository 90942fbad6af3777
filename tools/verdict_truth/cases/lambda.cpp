/* A std::function calls what uses the feature. */
#include "case.h"

#include <functional>

int main() {
    std::function<int(int)> work = [](int number) { return slow(number); };
    if (start)
        work = [](int number) { return fast(number); };
    printf("%d\n", work(start));
    return 0;
}
