/* tests/preload/alloc_count.c
 * LD_PRELOAD library: counts the allocations that the program's own code asks for (calls whose
 * return address lies in the executable, not in MPI or libc) and writes the count to
 * $ALLOC_COUNT_FILE.<pid> at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../support/preload/executable.h"

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

static _Atomic unsigned long count;

__attribute__((constructor)) static void find_executable(void)
{
    executable_find();
}

__attribute__((destructor)) static void report(void)
{
    char        path[4096];
    const char *base = getenv("ALLOC_COUNT_FILE");
    if (base == NULL) return;
    (void)snprintf(path, sizeof(path), "%s.%d", base, (int)getpid());
    FILE *f = fopen(path, "w");
    if (f == NULL) return;
    (void)fprintf(f, "%lu\n", (unsigned long)count);
    (void)fclose(f);
}

static void note(const void *caller)
{
    if (executable_calls(caller)) count++;
}

void *malloc(size_t n)
{
    note(__builtin_return_address(0));
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    note(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    note(__builtin_return_address(0));
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    note(__builtin_return_address(0));
    return __libc_memalign(align, n);
}
