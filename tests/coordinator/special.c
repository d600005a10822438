/* tests/coordinator/special.c: special tokens in a text, against the plain way (token by token,
 * the longest first, place by place), and how the work grows where that way is hopeless.
 * serial: yes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coordinator/special.h"

enum { TOKENS = 24, TEXT = 96 };

static uint32_t next_random(void) /* xorshift: the same run each time */
{
    static uint64_t x = 88172645463325252ULL;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 16);
}

static coord_special_t *create(model_str_t *tokens, uint32_t n, const uint8_t *wanted)
{
    model_vocab_t    v   = {.n_tokens = n, .tokens = tokens};
    coord_special_t *s   = NULL;
    base_err_t       err = {0};

    if (coord_special_create(&v, wanted, &s, &err) != BASE_OK) fail_msg("%s", err.text);
    return s;
}

/* owner[i]: id + 1 of the token whose place holds byte i; begins[i]: a place begins there. */
static void plain_way(const model_str_t *tokens, uint32_t n, const uint8_t *wanted,
                      const char *text, size_t bytes, int32_t *owner, bool *begins)
{
    bool done[TOKENS] = {false};

    memset(owner, 0, bytes * sizeof *owner);
    memset(begins, 0, bytes);
    for (;;) {
        uint32_t best  = n;
        bool     later = false;

        for (uint32_t i = 0; i < n; i++) /* of equal lengths the first */
            if (!done[i] && wanted[i] && tokens[i].bytes > 0 &&
                (best == n || tokens[i].bytes > tokens[best].bytes))
                best = i;
        if (best == n) return;
        done[best] = true;
        for (uint32_t i = best + 1; i < n; i++)
            later = later || (wanted[i] && tokens[i].bytes == tokens[best].bytes &&
                              memcmp(tokens[i].text, tokens[best].text, tokens[i].bytes) == 0);
        if (later) continue; /* of equal texts the last counts */
        for (size_t at = 0; at + tokens[best].bytes <= bytes; at++) {
            bool fits = memcmp(text + at, tokens[best].text, tokens[best].bytes) == 0;

            for (size_t i = 0; i < tokens[best].bytes; i++) fits = fits && owner[at + i] == 0;
            if (!fits) continue;
            begins[at] = true;
            for (size_t i = 0; i < tokens[best].bytes; i++) owner[at + i] = (int32_t)best + 1;
        }
    }
}

static void like_the_plain_way(void **state)
{
    char        pool[256], text[TEXT];
    model_str_t tokens[TOKENS];
    uint8_t     wanted[TOKENS];
    int32_t     owner[TEXT];
    bool        begins[TEXT];
    int         n_found = 0;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint32_t         letters = 1 + next_random() % 3, longest = 1 + next_random() % 12;
        uint32_t         n     = next_random() % (TOKENS + 1);
        size_t           bytes = next_random() % (TEXT + 1), n_matches = 0, seen = 0;
        coord_match_t   *matches = NULL;
        coord_special_t *s       = NULL;
        base_err_t       err     = {0};

        for (size_t i = 0; i < sizeof pool; i++) pool[i] = (char)('a' + next_random() % letters);
        for (size_t i = 0; i < bytes; i++) text[i] = (char)('a' + next_random() % letters);
        for (uint32_t i = 0; i < n; i++) {
            tokens[i] = (model_str_t){pool + next_random() % 200, next_random() % (longest + 1)};
            wanted[i] = next_random() % 8 != 0;
        }
        plain_way(tokens, n, wanted, text, bytes, owner, begins);
        s = create(tokens, n, wanted);
        if (coord_special_find(s, text, bytes, &matches, &n_matches, &err) != BASE_OK)
            fail_msg("%s", err.text);
        for (size_t at = 0; at < bytes; at++) {
            if (!begins[at]) continue;
            if (seen == n_matches || matches[seen].at != at || matches[seen].id != owner[at] - 1 ||
                matches[seen].bytes != tokens[owner[at] - 1].bytes)
                fail_msg("round %d, \"%.*s\": place %zu is not token %d at %zu", round, (int)bytes,
                         text, seen, owner[at] - 1, at);
            seen++;
        }
        assert_int_equal(seen, n_matches);
        n_found += (int)n_matches;
        free(matches);
        coord_special_destroy(&s);
    }
    assert_true(n_found > 100000);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Shapes that cost the plain way, or one that lists all occurrences, n squared. */
typedef enum { ONE_LONG, NESTED, SUFFIXES, MANY, SHAPES } shape_t;

/* Tokens and text of size n, all in `pool` (room for 4 n bytes). Returns the number of tokens. */
static uint32_t make(shape_t shape, size_t n, char *pool, model_str_t *tokens, char *text)
{
    uint32_t n_tokens = 0;

    memset(pool, 'a', 4 * n);
    memset(text, 'a', n);
    switch (shape) {
    case ONE_LONG: /* nearly found at each byte */
        pool[n - 1]        = 'b';
        tokens[n_tokens++] = (model_str_t){pool, (uint32_t)n};
        break;
    case NESTED: /* a, aa, aaa, ...: each begins and ends at each byte */
        for (size_t i = 1; i * i < n; i++) tokens[n_tokens++] = (model_str_t){pool, (uint32_t)i};
        break;
    case SUFFIXES: /* b, ab, aab, ...: all end where one does, and all but one are in the way */
        for (size_t i = 1; i * i < n; i++) {
            pool[n - 1]        = 'b';
            tokens[n_tokens++] = (model_str_t){pool + n - i, (uint32_t)i};
        }
        for (size_t i = 0; i < n; i += 3) text[i] = 'b';
        break;
    default: /* many long ones that differ late */
        for (size_t i = 1; i * 64 < n; i++) {
            memset(pool + (i - 1) * 64, 'a', 64);
            for (size_t digit = 1, rest = i; rest > 0; digit++, rest /= 10)
                pool[i * 64 - digit] = (char)('0' + rest % 10);
            tokens[n_tokens++] = (model_str_t){pool + (i - 1) * 64, 64};
        }
        break;
    }
    return n_tokens;
}

static uint64_t time_of(shape_t shape, size_t n)
{
    char        *pool = malloc(4 * n), *text = malloc(n);
    model_str_t *tokens = malloc(n * sizeof *tokens);
    uint8_t     *wanted = malloc(n);
    uint64_t     best   = UINT64_MAX;

    assert_true(pool != NULL && text != NULL && tokens != NULL && wanted != NULL);
    memset(wanted, 1, n);
    for (int run = 0; run < 5; run++) {
        uint32_t         n_tokens = make(shape, n, pool, tokens, text);
        uint64_t         start    = cpu_ns();
        coord_special_t *s        = create(tokens, n_tokens, wanted);
        coord_match_t   *matches  = NULL;
        size_t           n_found  = 0;
        base_err_t       err      = {0};

        assert_int_equal(coord_special_find(s, text, n, &matches, &n_found, &err), BASE_OK);
        free(matches);
        coord_special_destroy(&s);
        if (cpu_ns() - start < best) best = cpu_ns() - start;
    }
    free(pool);
    free(text);
    free(tokens);
    free(wanted);
    return best;
}

/* Sixteen times the size: sixteen times the work, the logarithm's share and what the caches cost; a
 * square would be 256. */
static void work_grows_evenly(void **state)
{
    (void)state;
    for (shape_t shape = 0; shape < SHAPES; shape++) {
        double small = (double)time_of(shape, 4000), big = (double)time_of(shape, 64000);

        print_message("shape %d: %.2f ms, sixteen times the size: %.1f times\n", (int)shape,
                      small / 1e6, big / small);
        if (big > 80 * small) fail_msg("shape %d: %.1f times the work", (int)shape, big / small);
    }
}

static void too_many_bytes(void **state)
{
    enum { N = 257 };
    static char      text[LIMIT_TOKEN_BYTES];
    model_str_t      tokens[N];
    uint8_t          wanted[N];
    coord_special_t *s   = NULL;
    base_err_t       err = {0};
    model_vocab_t    v   = {.n_tokens = N, .tokens = tokens};

    (void)state;
    memset(text, 'a', sizeof text);
    memset(wanted, 1, sizeof wanted);
    for (int i = 0; i < N; i++) tokens[i] = (model_str_t){text, sizeof text};
    assert_int_equal(coord_special_create(&v, wanted, &s, &err), BASE_ERR_LIMIT);
    assert_non_null(strstr(err.text, "special tokens"));
    v.n_tokens = 2;
    assert_int_equal(coord_special_create(&v, wanted, &s, &err), BASE_OK);
    coord_special_destroy(&s);
    coord_special_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_the_plain_way),
        cmocka_unit_test(work_grows_evenly),
        cmocka_unit_test(too_many_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
