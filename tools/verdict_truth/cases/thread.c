/* A thread uses the feature. */
#include "case.h"

#include <pthread.h>

FAST static void *work(void *argument) {
    *(int *)argument = fast(start);
    return NULL;
}

int main(void) {
    pthread_t thread;
    int result = 0;
    pthread_create(&thread, NULL, work, &result);
    pthread_join(thread, NULL);
    printf("%d\n", result);
    return 0;
}
