void scale(long n, float a, float *x) {
    for (long i = 0; i < n; i++) x[i] *= a;
}
