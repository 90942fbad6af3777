/* A virtual function uses the feature. */
#include "case.h"

struct Plain {
    virtual int work(int number) { return slow(number); }
    virtual ~Plain() {}
};
struct Fast : Plain {
    FAST int work(int number) override { return fast(number); }
};

int main() {
    Plain *object = start ? new Fast : new Plain;
    printf("%d\n", object->work(start));
    delete object;
    return 0;
}
