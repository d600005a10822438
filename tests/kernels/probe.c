/* tests/kernels/probe.c
 * Every probe of worker/kernels/probe_list.inc that this CPU runs, against its definition. */
#include "worker/kernels/probe.h"
#include "tests/kernels/kern_test.h"

enum { BYTES = 1 << 16 };

static void check_read(const char *variant, kern_probe_read_fn *fn)
{
    static _Alignas(64) uint8_t data[BYTES];
    const size_t                lengths[] = {0, 512, 1024, 1536, BYTES};
    uint32_t                    s         = 12345;

    for (size_t i = 0; i < BYTES; i++) data[i] = (uint8_t)((s = s * 1664525u + 1013904223u) >> 24);
    for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
        uint64_t want = 0;

        for (size_t i = 0; i < lengths[n]; i++) want ^= (uint64_t)data[i] << (8 * (i % 8));
        if (fn(data, lengths[n], false) != want || fn(data, lengths[n], true) != want)
            fail_msg("probe_read.%s, %zu bytes", variant, lengths[n]);
    }
}

static void check_mac(const char *variant, kern_probe_mac_fn *fn)
{
    const uint8_t a[] = {0, 1, 3, 7};
    const int8_t  b[] = {-127, -1, 1, 127};

    for (size_t i = 0; i < 16; i++) {
        const uint32_t one  = (uint32_t)(a[i / 4] * b[i % 4]);
        const uint32_t want = one * 1001u * KERN_PROBE_MACS;

        if (fn(1001, a[i / 4], b[i % 4]) != want)
            fail_msg("probe_mac.%s of %d, %d", variant, a[i / 4], b[i % 4]);
    }
    assert_int_equal(fn(0, 7, 127), 0);
}

static void check_fma(const char *variant, kern_probe_fma_fn *fn)
{
    if (fn(1000, 1.0f, 1.0f) != 1000.0f * KERN_PROBE_FMAS) fail_msg("probe_fma.%s", variant);
    if (fn(1000, 1.0f, -2.0f) != -2000.0f * KERN_PROBE_FMAS) fail_msg("probe_fma.%s", variant);
    if (fn(0, 1.0f, 1.0f) != 0) fail_msg("probe_fma.%s, no round", variant);
}

#define check_probe_read check_read
#define check_probe_mac  check_mac
#define check_probe_fma  check_fma

static void all_variants(void **state)
{
    const uint32_t have = kern_cpu_features();

    (void)state;
#define KERN(slot, variant, cpu_bits)                                                              \
    if ((have & (cpu_bits)) == (cpu_bits))                                                         \
        check_##slot(#variant, kern_##slot##__##variant);                                          \
    else                                                                                           \
        print_message("%s.%s: skipped, cpu lacks it\n", #slot, #variant);
#include "worker/kernels/probe_list.inc"
#undef KERN
}

static void the_strongest_is_taken(void **state)
{
    const kern_probes_t ref = kern_probes(0), best = kern_probes(kern_cpu_features());

    (void)state;
    assert_true(ref.probe_read == kern_probe_read__ref);
    assert_string_equal(ref.name.probe_mac, "ref");
    assert_non_null(best.probe_fma);
#if defined(__x86_64__)
    assert_string_equal(kern_probes(KERN_CPU_AVX2).name.probe_read, "avx2");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_variants),
        cmocka_unit_test(the_strongest_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
