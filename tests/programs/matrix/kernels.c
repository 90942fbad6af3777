/* Every kernel, and a program that prints what they make, as one module. */
#include "../kernels/base64.c"
#include "../kernels/dot.c"
#include "../kernels/matrix.c"
#include "../kernels/population.c"
#include "../kernels/scan.c"
#include "../kernels/print.c"
