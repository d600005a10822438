/* base/arena.c: bump allocation in mapped memory. */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"

enum { ARENA_ALIGN = 64, HUGE_PAGE = 2 << 20 };

base_status_t base_arena_create(base_arena_t *arena, size_t bytes, const char *what,
                                base_err_t *err)
{
    base_assert(arena != NULL && arena->base == NULL);
    size_t size = base_round_up(bytes == 0 ? 1 : bytes, 4096);
    /* One huge page more, so that the start can be aligned to one and none is split. */
    size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    void  *p = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return base_fail(err, BASE_ERR_MEMORY,
                         "%s: cannot reserve %zu bytes; use more machines or a "
                         "smaller context (-c): trireme plan says what fits",
                         what, bytes);
    uint8_t *start = p;
    if (slack != 0) {
        size_t head = (size_t)(-(uintptr_t)start & (HUGE_PAGE - 1));
        if (head > 0) (void)munmap(start, head);
        start += head;
        if (slack > head) (void)munmap(start + size, slack - head);
        (void)madvise(start, size, MADV_HUGEPAGE);
    }
    arena->base  = start;
    arena->bytes = size;
    arena->used  = 0;
    return BASE_OK;
}

void *base_arena_take(base_arena_t *arena, size_t bytes)
{
    size_t at = base_round_up(arena->used, ARENA_ALIGN);
    base_assert(at <= arena->bytes && bytes <= arena->bytes - at);
    arena->used = at + bytes;
    return arena->base + at;
}

void base_arena_reset(base_arena_t *arena)
{
    arena->used = 0;
}

void base_arena_destroy(base_arena_t *arena)
{
    if (arena->base != NULL) (void)munmap(arena->base, arena->bytes);
    memset(arena, 0, sizeof(*arena));
}

base_status_t base_alloc(void **out, size_t n, size_t size, const char *what, base_err_t *err)
{
    uint64_t bytes = 0;
    void    *p     = NULL;
    if (base_mul_u64(n, size, &bytes)) p = calloc(1, bytes == 0 ? 1 : bytes);
    if (p == NULL)
        return base_fail(err, BASE_ERR_MEMORY, "%s: cannot allocate %zu x %zu bytes", what, n,
                         size);
    *out = p;
    return BASE_OK;
}
