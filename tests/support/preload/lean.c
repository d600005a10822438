/* tests/support/preload/lean.c
 * A rank that runs out of memory: the N-th calloc that its own code asks for fails (calls whose
 * return address lies in the executable, not in MPI or libc).
 *   LEAN_RANK=N  which rank
 *   LEAN_AT=N    which call, from 1 on; 0: none
 *   LEAN_FILE=P  the rank writes how many there were to P at its end */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "executable.h"

extern void *__libc_calloc(size_t n, size_t size);

static _Atomic long count;
static long         fails = -1;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? -1 : strtol(text, NULL, 10);
}

__attribute__((constructor)) static void set_up(void)
{
    executable_find();
    if (number("OMPI_COMM_WORLD_RANK") == number("LEAN_RANK")) fails = number("LEAN_AT");
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("LEAN_FILE");
    FILE       *f    = fails < 0 || path == NULL ? NULL : fopen(path, "w");
    if (f == NULL) return;
    (void)fprintf(f, "%ld\n", (long)count);
    (void)fclose(f);
}

void *calloc(size_t n, size_t size)
{
    if (fails >= 0 && executable_calls(__builtin_return_address(0)) && ++count == fails)
        return NULL;
    return __libc_calloc(n, size);
}
