/* An object whose virtual function uses the feature is made if the CPU has it. */
#include "vtable.h"

int main() {
    Plain *object = asks_cpuid() ? new Fast : new Plain;
    printf("%d\n", object->work(start));
    delete object;
    return 0;
}
