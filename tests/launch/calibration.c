/* Figures of a calibration and back; files that are damaged, of another machine, or cannot be. */
#include "launch/calibration.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch/pack_choice.h"

static const worker_pack_rate_t RATES[WORKER_PACKS] = {{1.5e11, 2.25e11}, {1.75e11, 2e11}};

static void key_of(char *key, int threads)
{
    calibration_key(2, 1, threads, "avx2", key, CALIBRATION_KEY_BYTES);
}

static void same_rates(const worker_pack_rate_t *r)
{
    for (int i = 0; i < WORKER_PACKS; i++) {
        assert_true(r[i].gemv == RATES[i].gemv);
        assert_true(r[i].gemm == RATES[i].gemm);
    }
}

static void bytes_and_back(void **state)
{
    (void)state;
    char               key[CALIBRATION_KEY_BYTES], other[CALIBRATION_KEY_BYTES];
    char               bytes[CALIBRATION_FILE_BYTES];
    worker_pack_rate_t r[WORKER_PACKS];
    key_of(key, 2);
    key_of(other, 3);
    assert_string_not_equal(key, other);
    size_t n = calibration_format(key, RATES, bytes, sizeof(bytes));
    assert_true(calibration_parse(key, bytes, n, r));
    same_rates(r);
    assert_false(calibration_parse(other, bytes, n, r));
    /* Every bit of every byte, every length. */
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] = (char)(bytes[i] ^ 1 << bit);
            assert_false(calibration_parse(key, bytes, n, r));
            bytes[i] = (char)(bytes[i] ^ 1 << bit);
        }
    for (size_t i = 0; i < n; i++) assert_false(calibration_parse(key, bytes, i, r));
    bytes[n] = '\n';
    assert_false(calibration_parse(key, bytes, n + 1, r));
    assert_true(calibration_parse(key, bytes, n, r));
}

/* Sound but for what it says. */
static void wild_numbers(void **state)
{
    (void)state;
    static const double wild[] = {0, -1, 1e18, (double)INFINITY, (double)NAN};
    char                key[CALIBRATION_KEY_BYTES], bytes[CALIBRATION_FILE_BYTES];
    key_of(key, 2);
    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        worker_pack_rate_t r[WORKER_PACKS];
        memcpy(r, RATES, sizeof(r));
        r[i % 2].gemm = wild[i];
        size_t n      = calibration_format(key, r, bytes, sizeof(bytes));
        assert_false(calibration_parse(key, bytes, n, r));
    }
}

static void file_and_back(void **state)
{
    (void)state;
    char               root[] = "/tmp/trireme-calibration-XXXXXX";
    char               key[CALIBRATION_KEY_BYTES], command[128], path[128];
    worker_pack_rate_t r[WORKER_PACKS];
    key_of(key, 2);
    assert_non_null(mkdtemp(root));
    (void)snprintf(path, sizeof(path), "%s/home", root);
    assert_int_equal(setenv("XDG_CACHE_HOME", path, 1), 0);
    assert_false(calibration_load(key, r));
    assert_true(calibration_save(key, RATES)); /* makes both folders */
    assert_true(calibration_load(key, r));
    same_rates(r);
    assert_true(calibration_save(key, RATES)); /* over the old one */
    key_of(key, 3);
    assert_false(calibration_load(key, r));
    key_of(key, 2);
    assert_int_equal(setenv("TRIREME_CALIBRATION", "off", 1), 0);
    assert_false(calibration_load(key, r));
    assert_false(calibration_save(key, RATES));
    assert_int_equal(unsetenv("TRIREME_CALIBRATION"), 0);
    /* A file where the folder should be, a relative path, no home at all. */
    (void)snprintf(command, sizeof(command), "rm -r %s/home && : >%s/home", root, root);
    assert_int_equal(system(command), 0);
    assert_false(calibration_save(key, RATES));
    assert_false(calibration_load(key, r));
    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    assert_int_equal(setenv("HOME", root, 1), 0);
    assert_true(calibration_save(key, RATES));
    (void)snprintf(path, sizeof(path), "%s/.cache/trireme", root);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(unsetenv("HOME"), 0);
    assert_false(calibration_save(key, RATES));
    (void)snprintf(command, sizeof(command), "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* The rules of launch/pack_choice.h, each by the least case that shows it. */
static void decisions(void **state)
{
    (void)state;
    const uint64_t gib = 1 << 30;
    bool           measure;
    pack_host_t    h = {.ternary_bytes = gib,
                        .bytes         = {3 * gib, 2 * gib},
                        .available     = 4 * gib,
                        .rates         = {{100, 200}, {106, 199}}};
    pack_choice_t  c = pack_decide(&h, &measure);
    assert_int_equal(c.pack, WORKER_PACK_T3);
    assert_int_equal(c.reason, PACK_MEASURED);
    assert_false(measure);
    h.rates[WORKER_PACK_T3].gemv = 104; /* ahead by less than it takes */
    assert_int_equal(pack_decide(&h, &measure).pack, WORKER_PACK_T2);
    h.rates[WORKER_PACK_T3] = (worker_pack_rate_t){120, 150}; /* prompts lose more */
    assert_int_equal(pack_decide(&h, &measure).pack, WORKER_PACK_T2);
    h.available = 2 * gib + gib / 2; /* only base 3 fits, whatever was measured */
    c           = pack_decide(&h, &measure);
    assert_int_equal(c.pack, WORKER_PACK_T3);
    assert_int_equal(c.reason, PACK_MEMORY);
    h.available = gib; /* neither: measured all the same */
    assert_int_equal(pack_decide(&h, &measure).reason, PACK_MEASURED);
    h.available                  = 4 * gib;
    h.rates[WORKER_PACK_T3].gemm = 0;
    (void)pack_decide(&h, &measure);
    assert_true(measure);
    h.ternary_bytes = 1 << 20;
    c               = pack_decide(&h, &measure);
    assert_false(measure);
    assert_int_equal(c.pack, WORKER_PACK_T2);
    assert_int_equal(c.reason, PACK_SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_back),
        cmocka_unit_test(wild_numbers),
        cmocka_unit_test(file_and_back),
        cmocka_unit_test(decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
