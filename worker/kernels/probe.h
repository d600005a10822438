/* worker/kernels/probe.h
 * What a machine can do at most: loops that read, multiply and add, and do nothing else. They are
 * the denominators of measurements (worker/measure.h), no part of a model's step.
 *
 * Each returns what it worked out, so that no compiler may leave the work out and the variants can
 * be compared. probe_list.inc lists them, in the form of kernel_list.inc. Any thread. */
#ifndef TRIREME_KERN_PROBE_H
#define TRIREME_KERN_PROBE_H

#include "worker/kernels/kernel.h"

enum {
    KERN_PROBE_BYTES = 512,  /* probe_read: granule of its length */
    KERN_PROBE_MACS  = 3072, /* int8 products of a round of probe_mac */
    KERN_PROBE_FMAS  = 768,  /* float products of a round of probe_fma */
};

/* The exclusive or of all 64-bit words (little endian) of a range.
 * p: 64-byte aligned; bytes: a multiple of KERN_PROBE_BYTES. ahead: each line is asked for 4 KiB
 * before its use, as some kernels do; false leaves it to the CPU's own prefetcher. */
typedef uint64_t kern_probe_read_fn(const void *p, size_t bytes, bool ahead);

/* n_rounds of KERN_PROBE_MACS products a * b, in registers: their sum modulo 2^32.
 * 0 <= a <= 7, so that variants may add sixteen pairs of products in 16 bits, as the AVX2 products
 * of ternary weights do. */
typedef uint32_t kern_probe_mac_fn(size_t n_rounds, uint8_t a, int8_t b);

/* n_rounds of KERN_PROBE_FMAS steps y = fma(y, m, c), dealt out evenly to some number of registers
 * that begin at 0: the sum of all. The number is the variant's; with m = 1 and a whole c the sum is
 * n_rounds * KERN_PROBE_FMAS * c, exact below 2^24. */
typedef float kern_probe_fma_fn(size_t n_rounds, float m, float c);

#define KERN_PROBES(X)                                                                             \
    X(probe_read, kern_probe_read_fn)                                                              \
    X(probe_mac, kern_probe_mac_fn)                                                                \
    X(probe_fma, kern_probe_fma_fn)

#define X(slot, type) typedef type kern_slot_##slot##_t;
KERN_PROBES(X)
#undef X

#define KERN(slot, variant, cpu_bits) kern_slot_##slot##_t kern_##slot##__##variant;
#include "worker/kernels/probe_list.inc"
#undef KERN

/* The strongest variant of each whose bits are all in `features`, and its name. */
typedef struct {
#define X(slot, type) type *slot;
    KERN_PROBES(X)
#undef X
    struct {
#define X(slot, type) const char *slot;
        KERN_PROBES(X)
#undef X
    } name;
} kern_probes_t;

kern_probes_t kern_probes(uint32_t features);

#endif
