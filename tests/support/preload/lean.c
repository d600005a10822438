/* tests/support/preload/lean.c
 * A rank that runs out of memory: the N-th calloc that its own code asks for fails (calls whose
 * return address lies in the executable, not in MPI or libc).
 *   LEAN_RANK=N  which rank
 *   LEAN_AT=N    which call, from 1 on; 0: none
 *   LEAN_FILE=P  the rank writes to P at its end how many there were, and with LEAN_AT=0 a line for
 *                each: a number that calls by the same way through the program share */
#define _GNU_SOURCE
#include <execinfo.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "executable.h"

extern void *__libc_calloc(size_t n, size_t size);

enum { WAYS_MAX = 10000, FRAMES = 64 };

static _Atomic long count;
static long         fails = -1;
static uint64_t     ways[WAYS_MAX];

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
    for (long i = 0; i < count && fails == 0; i++)
        (void)fprintf(f, "%llx\n", (unsigned long long)(i < WAYS_MAX ? ways[i] : (uint64_t)i));
    (void)fclose(f);
}

/* The callers that lie in the executable, as one number (FNV-1a of their addresses). */
static uint64_t way_here(void)
{
    void    *frames[FRAMES];
    int      n    = backtrace(frames, FRAMES);
    uint64_t hash = 0xcbf29ce484222325;

    for (int i = 0; i < n; i++)
        if (executable_calls(frames[i])) hash = (hash ^ (uintptr_t)frames[i]) * 0x100000001b3;
    return hash;
}

void *calloc(size_t n, size_t size)
{
    if (fails >= 0 && executable_calls(__builtin_return_address(0))) {
        const long at = ++count;
        if (at == fails) return NULL;
        if (fails == 0 && at <= WAYS_MAX) ways[at - 1] = way_here();
    }
    return __libc_calloc(n, size);
}
