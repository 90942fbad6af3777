#include <stdio.h>

int main(void) {
    double sum = 0;
    for (int i = 0; i < 1000; i++) sum += i * 0.5;
    printf("%.1f\n", sum);
    return 0;
}
