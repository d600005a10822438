/* tests/preload/alloc_count.c
 * LD_PRELOAD library: counts the allocations that the program's own code asks for (calls whose
 * return address lies in the executable, not in MPI or libc) and writes the count to
 * $ALLOC_COUNT_FILE.<pid> at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

static _Atomic unsigned long count;
static _Atomic unsigned long begin, end; /* of the executable's segments */

static int first_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    unsigned long hi = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        unsigned long e = info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && e > hi) hi = e;
    }
    begin = info->dlpi_addr;
    end   = info->dlpi_addr + hi;
    return 1; /* the executable comes first */
}

__attribute__((constructor)) static void find_executable(void)
{
    (void)dl_iterate_phdr(first_object, NULL);
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
    unsigned long at = (unsigned long)caller;
    if (at >= begin && at < end) count++;
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
