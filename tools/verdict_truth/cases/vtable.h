/* A class whose virtual function uses the feature, and its base, whose does not. */
#include "case.h"

struct Plain {
    virtual int work(int number) { return slow(number); }
    virtual ~Plain() {}
};
struct Fast : Plain {
    FAST int work(int number) override { return fast(number); }
};
