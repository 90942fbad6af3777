/* A virtual function uses the feature. */
#include "vtable.h"

int main() {
    Plain *object = start ? new Fast : new Plain;
    printf("%d\n", object->work(start));
    delete object;
    return 0;
}
