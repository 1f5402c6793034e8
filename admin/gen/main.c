#include <stdio.h>
#include <string.h>

#include "gen.h"


int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "manual") == 0) {
        gen_manual(stdout);
    } else if (argc == 2 && strcmp(argv[1], "completion") == 0) {
        gen_completion(stdout);
    } else {
        fputs("usage: gen manual|completion\n", stderr);
        return 2;
    }

    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
