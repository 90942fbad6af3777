/* A program for any CPU, all of whose work is done by a library. */
int run(int count, char **arguments);

int main(int count, char **arguments) { return run(count, arguments); }
