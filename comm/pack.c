/* comm/pack.c: widths of 0 to 4 bytes. Three bytes are two planes, 16 bits of all values and then 8
 * of all, so that every loop here is one that a compiler turns into vector code. */
#include "comm/pack.h"

#include <stdbool.h>
#include <string.h>

#include "base/log.h"

size_t comm_pack_room(size_t n)
{
    return COMM_PACK_HEAD + n * sizeof(int32_t);
}

/* The bits of a magnitude, all together: v, or ~v where v is negative; below 2^(b-1) if v fits
 * b. */
static uint32_t magnitudes(const int32_t *v, size_t n, uint32_t *any)
{
    uint32_t bits = 0, all = 0;

    for (size_t i = 0; i < n; i++) {
        bits |= (uint32_t)(v[i] ^ (v[i] >> 31));
        all |= (uint32_t)v[i];
    }
    *any = all;
    return bits;
}

static uint32_t width_of(const int32_t *v, size_t n)
{
    uint32_t any = 0, bits = magnitudes(v, n, &any);

    if (any == 0) return 0;
    return bits < 1u << 7 ? 1 : bits < 1u << 15 ? 2 : bits < 1u << 23 ? 3 : 4;
}

size_t comm_pack_i32(uint8_t *restrict to, const int32_t *restrict from, size_t n)
{
    uint32_t head[COMM_PACK_HEAD / 4] = {width_of(from, n)};
    uint8_t *data                     = to + COMM_PACK_HEAD;
    int8_t  *bytes                    = (int8_t *)data;
    int16_t *words                    = (int16_t *)(void *)data;

    memcpy(to, head, sizeof(head));
    switch (head[0]) {
    case 1:
        for (size_t i = 0; i < n; i++) bytes[i] = (int8_t)from[i];
        break;
    case 2:
        for (size_t i = 0; i < n; i++) words[i] = (int16_t)from[i];
        break;
    case 3:
        bytes += 2 * n;
        for (size_t i = 0; i < n; i++) words[i] = (int16_t)(uint32_t)from[i];
        for (size_t i = 0; i < n; i++) bytes[i] = (int8_t)(from[i] >> 16);
        break;
    case 4: memcpy(data, from, n * sizeof(*from)); break;
    default: break;
    }
    return COMM_PACK_HEAD + head[0] * n;
}

static base_status_t unknown(uint32_t width, base_err_t *err)
{
    return base_fail(err, BASE_ERR_PEER, "a rank sent values of %u bytes: likely another version",
                     width);
}

base_status_t comm_pack_add(int32_t *restrict to, const uint8_t *restrict from, size_t n,
                            base_err_t *err)
{
    uint32_t        width = 0;
    const uint8_t  *data  = from + COMM_PACK_HEAD;
    const int8_t   *bytes = (const int8_t *)data;
    const int16_t  *words = (const int16_t *)(const void *)data;
    const uint32_t *whole = (const uint32_t *)(const void *)data;
    uint32_t       *sum   = (uint32_t *)(void *)to;

    memcpy(&width, from, sizeof(width));
    switch (width) {
    case 0: return BASE_OK;
    case 1:
        for (size_t i = 0; i < n; i++) to[i] += bytes[i];
        return BASE_OK;
    case 2:
        for (size_t i = 0; i < n; i++) to[i] += words[i];
        return BASE_OK;
    case 3:
        bytes += 2 * n;
        for (size_t i = 0; i < n; i++)
            sum[i] += ((uint32_t)bytes[i] << 16) + (uint32_t)(uint16_t)words[i];
        return BASE_OK;
    case 4:
        for (size_t i = 0; i < n; i++) sum[i] += whole[i];
        return BASE_OK;
    default: return unknown(width, err);
    }
}

base_status_t comm_pack_store(int32_t *to, const uint8_t *from, size_t n, base_err_t *err)
{
    memset(to, 0, n * sizeof(*to));
    return comm_pack_add(to, from, n, err);
}

/* ---- 16 bits in shared memory ---------------------------------------------------------------- */

/* The loops of a step on one host. Built twice on x86-64, as what every CPU has takes twice as
 * long. Bytes that two ranks of unlike CPUs write are the same. */
#if defined(__x86_64__)
#define WIDE     __attribute__((target("avx2")))
#define HAS_WIDE __builtin_cpu_supports("avx2")
#else
#define WIDE
#define HAS_WIDE false
#endif
#define BODY static inline __attribute__((always_inline))

BODY bool narrow(int16_t *restrict to, const int32_t *restrict from, size_t n)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < n; i++) {
        bits |= (uint32_t)(from[i] ^ (from[i] >> 31));
        to[i] = (int16_t)from[i];
    }
    return bits < 1u << 15;
}

BODY void add_narrow(int32_t *restrict to, const int16_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

WIDE static bool narrow_wide(int16_t *restrict to, const int32_t *restrict from, size_t n)
{
    return narrow(to, from, n);
}

WIDE static void add_narrow_wide(int32_t *restrict to, const int16_t *restrict from, size_t n)
{
    add_narrow(to, from, n);
}

bool comm_pack_narrow(int16_t *to, const int32_t *from, size_t n)
{
    return HAS_WIDE ? narrow_wide(to, from, n) : narrow(to, from, n);
}

void comm_pack_add_narrow(int32_t *to, const int16_t *from, size_t n)
{
    if (HAS_WIDE)
        add_narrow_wide(to, from, n);
    else
        add_narrow(to, from, n);
}
