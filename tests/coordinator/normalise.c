/* tests/coordinator/normalise.c: broken UTF-8, ASCII, what joins over the cuts that are made, and
 * how the work grows. (Against another library: tokenizer_golden.c.)
 * serial: yes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coordinator/normalise.h"

static void expect(model_normal_t form, const char *text, size_t bytes, const char *want,
                   size_t want_bytes)
{
    char      *out = NULL;
    size_t     n   = 0;
    base_err_t err = {0};

    if (coord_normalise(form, text, bytes, &out, &n, &err) != BASE_OK) fail_msg("%s", err.text);
    if (bytes == want_bytes && memcmp(text, want, bytes) == 0) {
        assert_null(out); /* it was in that form */
        return;
    }
    assert_non_null(out);
    if (n != want_bytes || memcmp(out, want, n) != 0)
        fail_msg("\"%s\" becomes \"%.*s\", expected \"%s\"", text, (int)n, out, want);
    free(out);
}

#define EXPECT(form, text, want)                                                                   \
    expect(MODEL_NORMAL_##form, text, sizeof(text) - 1, want, sizeof(want) - 1)

#define ACUTE   "\xCC\x81" /* U+0301 */
#define E_ACUTE "\xC3\xA9" /* U+00E9 */

static void forms(void **state)
{
    (void)state;
    EXPECT(NONE, "e" ACUTE, "e" ACUTE);
    EXPECT(NFC, "", "");
    EXPECT(NFC, "plain ASCII \n\t\x7F", "plain ASCII \n\t\x7F");
    EXPECT(NFC, "a\0b", "a\0b");
    EXPECT(NFC, "e" ACUTE, E_ACUTE);
    EXPECT(NFC, "see" ACUTE "x e" ACUTE, "se" E_ACUTE "x " E_ACUTE);
    EXPECT(NFC, E_ACUTE "t" E_ACUTE, E_ACUTE "t" E_ACUTE);
    EXPECT(NFD, E_ACUTE "t" E_ACUTE, "e" ACUTE "te" ACUTE);
    EXPECT(NFC, "\0" ACUTE, "\0" ACUTE);
    EXPECT(NFKC, "\xEF\xAC\x81x" ACUTE, "fix" ACUTE);
    EXPECT(NFC, "\xEF\xAC\x81", "\xEF\xAC\x81");
    EXPECT(NFKD, "\xC2\xBD",
           "1\xE2\x81\x84"
           "2");
    EXPECT(NFD, "\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");
}

/* Bytes that are no UTF-8 stay, and part the text. */
static void broken(void **state)
{
    (void)state;
    EXPECT(NFC, "\xFF", "\xFF");
    EXPECT(NFC, "e\xFF" ACUTE, "e\xFF" ACUTE);
    EXPECT(NFC,
           "\xCC"
           "e" ACUTE "\xCC",
           "\xCC" E_ACUTE "\xCC");
    EXPECT(NFC,
           "e" ACUTE "\xED\xA0\x80"
           "e" ACUTE "\xC0\x80\xF5",
           E_ACUTE "\xED\xA0\x80" E_ACUTE "\xC0\x80\xF5");
}

static double time_of(size_t pairs)
{
    char      *text = malloc(4 * pairs), *out = NULL;
    double     best = 1e9;
    size_t     n    = 0;
    base_err_t err  = {0};

    assert_non_null(text);
    for (size_t i = 0; i < pairs; i++) memcpy(text + 4 * i, "\xCC\x81\xCC\xA3", 4); /* 230, 220 */
    for (int run = 0; run < 5; run++) {
        struct timespec a, b;

        assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a), 0);
        assert_int_equal(coord_normalise(MODEL_NORMAL_NFC, text, 4 * pairs, &out, &n, &err),
                         BASE_OK);
        assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b), 0);
        assert_true(out != NULL && n == 4 * pairs && out[1] == out[2 * pairs - 1]);
        free(out);
        if ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9 < best)
            best = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    }
    free(text);
    return best;
}

/* Nothing but combining marks, each pair in the wrong order: sixteen times as many, not 256 times
 * the work. */
static void many_marks(void **state)
{
    double small = time_of(8000), big = time_of(128000);

    (void)state;
    print_message("%.2f ms, sixteen times the size: %.1f times\n", small * 1e3, big / small);
    assert_true(big < 80 * small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(broken),
        cmocka_unit_test(many_marks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
