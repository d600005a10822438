/* tests/model/mac.c: SipHash-2-4 against the values of its authors: the key is the bytes 0 to 15,
 * the message the bytes 0 to n - 1 (appendix A of the paper for n = 15, the reference code's
 * vectors.h for the others). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model.h"

static const model_secret_t key = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};

static void reference_values(void **state)
{
    static const struct {
        size_t   n;
        uint64_t mac;
    } want[] = {{0, UINT64_C(0x726fdb47dd0e0e31)},
                {1, UINT64_C(0x74f839c593dc67fd)},
                {15, UINT64_C(0xa129ca6149be45e5)}};
    uint8_t bytes[64];
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        assert_true(model_bytes_mac64(&key, bytes, want[i].n) == want[i].mac);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reference_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
