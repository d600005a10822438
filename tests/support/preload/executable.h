/* tests/support/preload/executable.h
 * Where the executable lies, for preloaded libraries that mind only calls of its own code, not
 * those of MPI or libc. */
#ifndef TRIREME_TESTS_PRELOAD_EXECUTABLE_H
#define TRIREME_TESTS_PRELOAD_EXECUTABLE_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>

static unsigned long executable_begin, executable_end; /* of its segments; 0 until found */

static int executable_first(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    unsigned long hi = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        unsigned long e = info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && e > hi) hi = e;
    }
    executable_begin = info->dlpi_addr;
    executable_end   = info->dlpi_addr + hi;
    return 1; /* the executable comes first */
}

/* From a constructor, before there are threads. */
static void executable_find(void)
{
    (void)dl_iterate_phdr(executable_first, NULL);
}

/* Does a call that returns there come from the executable? */
static bool executable_calls(const void *return_address)
{
    const unsigned long at = (unsigned long)return_address;
    return at >= executable_begin && at < executable_end;
}

#endif
