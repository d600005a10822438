/* tests/support/preload/lean.c
 * A rank that runs out of memory: the N-th calloc that its own code asks for fails (calls whose
 * return address lies in the executable, not in MPI or libc).
 *   LEAN_RANK=N  which rank
 *   LEAN_AT=N    which call, from 1 on; 0: none
 *   LEAN_FILE=P  the rank writes how many there were to P at its end */
#define _GNU_SOURCE
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_calloc(size_t n, size_t size);

static _Atomic long  count;
static long          fails = -1;
static unsigned long begin, end; /* of the executable's segments */

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

static long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? -1 : strtol(text, NULL, 10);
}

__attribute__((constructor)) static void set_up(void)
{
    (void)dl_iterate_phdr(first_object, NULL);
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
    const unsigned long at = (unsigned long)__builtin_return_address(0);
    if (fails >= 0 && at >= begin && at < end && ++count == fails) return NULL;
    return __libc_calloc(n, size);
}
