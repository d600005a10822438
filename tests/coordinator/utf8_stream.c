/* tests/coordinator/utf8_stream.c: characters and stop strings cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "coordinator/utf8.h"
#include "coordinator/utf8_stream.h"

enum { PIECE_MAX = 64 };

typedef struct {
    char   text[4096];
    size_t bytes;
    bool   stopped;
} output_t;

static void take(output_t *o, const char *text, size_t bytes)
{
    /* what is shown is whole characters, always */
    for (size_t i = 0; i < bytes;) {
        unsigned n = coord_utf8_length(text + i, bytes - i);

        assert_true(n > 0);
        i += n;
    }
    assert_true(o->bytes + bytes < sizeof o->text);
    memcpy(o->text + o->bytes, text, bytes);
    o->bytes += bytes;
    o->text[o->bytes] = '\0';
}

/* All of `in` in pieces of the given lengths, repeated. */
static output_t feed(const char *const *stops, size_t n_stops, bool drop_space, const char *in,
                     size_t in_bytes, size_t first, size_t rest)
{
    coord_stream_t *s   = NULL;
    base_err_t      err = {0};
    output_t        o   = {.bytes = 0};
    const char     *text;
    size_t          bytes, at = 0;

    assert_int_equal(coord_stream_create(stops, n_stops, drop_space, PIECE_MAX, &s, &err), BASE_OK);
    while (at < in_bytes) {
        size_t n = at == 0 && first > 0 ? first : rest;

        if (n > in_bytes - at) n = in_bytes - at;
        if (coord_stream_push(s, in + at, n, &text, &bytes)) o.stopped = true;
        take(&o, text, bytes);
        at += n;
    }
    if (coord_stream_flush(s, &text, &bytes)) o.stopped = true;
    take(&o, text, bytes);
    assert_int_equal(o.stopped, coord_stream_stop(s) != NULL);
    coord_stream_destroy(&s);
    assert_null(s);
    return o;
}

static void expect(const char *const *stops, size_t n_stops, const char *in, size_t in_bytes,
                   const char *out, bool stopped)
{
    for (size_t first = 0; first <= in_bytes && first <= PIECE_MAX; first++)
        for (size_t rest = 1; rest <= 9; rest++) {
            output_t o = feed(stops, n_stops, false, in, in_bytes, first, rest);

            if (strcmp(o.text, out) != 0 || o.stopped != stopped)
                fail_msg("\"%s\" cut at %zu, then every %zu: \"%s\", expected \"%s\"", in, first,
                         rest, o.text, out);
        }
}

#define EXPECT(stops, n, in, out, stopped) expect(stops, n, in, sizeof(in) - 1, out, stopped)
#define FFFD                               "\xEF\xBF\xBD"

static void whole_characters(void **state)
{
    (void)state;
    EXPECT(NULL, 0, "", "", false);
    EXPECT(NULL, 0, "plain", "plain", false);
    EXPECT(NULL, 0, "a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\xA6\x99z",
           "a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\xA6\x99z", false);
}

/* One U+FFFD for each maximal part of a character: Unicode 15, tables 3-8 to 3-11. */
static void broken_characters(void **state)
{
    (void)state;
    EXPECT(NULL, 0, "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
           FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A", false);
    EXPECT(NULL, 0, "\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
           FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A", false);
    EXPECT(NULL, 0, "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
           FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B", false);
    EXPECT(NULL, 0, "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", FFFD FFFD FFFD FFFD "A", false);
    EXPECT(NULL, 0, "end \xF0\x9F\xA6", "end " FFFD, false);
}

static void stop_strings(void **state)
{
    const char *one[]  = {"STOP"};
    const char *user[] = {"User:", "", "\n\n", "<|im_end|>"};
    const char *same[] = {"aab", "ab", "b"};
    const char *wide[] = {"\xE6\xBC\xA2\xE5\xAD\x97"};
    const char *fffd[] = {FFFD "!", FFFD};

    (void)state;
    EXPECT(one, 1, "go STOP and more", "go ", true);
    EXPECT(one, 1, "STOP", "", true);
    EXPECT(one, 1, "STO", "STO", false);
    EXPECT(one, 1, "SSTSTOSTOP", "SSTSTO", true);
    EXPECT(one, 1, "STSTST", "STSTST", false);
    EXPECT(user, 4, "Hi\nUser: x", "Hi\n", true);
    EXPECT(user, 4, "Hi\n \n\nUser: x", "Hi\n ", true);
    EXPECT(user, 4, "<|im_end<|im_end|>", "<|im_end", true);
    EXPECT(same, 3, "xxaaab", "xxa", true); /* they end together: the longest */
    EXPECT(wide, 1, "x\xE6\xBC\xA2\xE6\xBC\xA2\xE5\xAD\x97y", "x\xE6\xBC\xA2", true);
    EXPECT(fffd, 2, "ab\xF0\x9F", "ab", true); /* only the end shows that it is broken */
}

/* A stop string that is complete first ends the text, also if another began before it. */
static void first_complete_wins(void **state)
{
    const char *stops[] = {"abcdef", "cd"};

    (void)state;
    EXPECT(stops, 2, "xabcdef", "xab", true);
}

/* Text is not kept back longer than needed. */
static void shows_at_once(void **state)
{
    const char     *stops[] = {"\nUser"};
    coord_stream_t *s       = NULL;
    base_err_t      err     = {0};
    const char     *text;
    size_t          bytes;

    (void)state;
    assert_int_equal(coord_stream_create(stops, 1, false, PIECE_MAX, &s, &err), BASE_OK);
    coord_stream_push(s, "Hello\xC3", 6, &text, &bytes);
    assert_int_equal(bytes, 5);
    coord_stream_push(s, "\xA9", 1, &text, &bytes);
    assert_int_equal(bytes, 2);
    coord_stream_push(s, " x\nUs", 5, &text, &bytes);
    assert_int_equal(bytes, 2);
    coord_stream_push(s, "es", 2, &text, &bytes);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "\nUses", 5);
    coord_stream_push(s, "\nUser\n", 6, &text, &bytes);
    assert_string_equal(coord_stream_stop(s), "\nUser");
    assert_int_equal(bytes, 0);
    assert_true(coord_stream_push(s, "more", 4, &text, &bytes));
    assert_int_equal(bytes, 0);
    coord_stream_destroy(&s);
    coord_stream_destroy(&s);
}

static void drops_first_space(void **state)
{
    (void)state;
    assert_string_equal(feed(NULL, 0, true, "  two", 5, 0, 1).text, " two");
    assert_string_equal(feed(NULL, 0, true, "x y", 3, 0, 2).text, "x y");
    assert_string_equal(feed(NULL, 0, false, " x", 2, 0, 2).text, " x");
}

static void limits(void **state)
{
    const char     *stops[LIMIT_STOP_STRINGS + 1];
    coord_stream_t *s   = NULL;
    base_err_t      err = {0};

    (void)state;
    for (size_t i = 0; i <= LIMIT_STOP_STRINGS; i++) stops[i] = "x";
    assert_int_equal(coord_stream_create(stops, LIMIT_STOP_STRINGS + 1, false, 1, &s, &err),
                     BASE_ERR_LIMIT);
    assert_null(s);
    assert_non_null(strstr(err.text, "65"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_characters), cmocka_unit_test(broken_characters),
        cmocka_unit_test(stop_strings),     cmocka_unit_test(first_complete_wins),
        cmocka_unit_test(shows_at_once),    cmocka_unit_test(drops_first_space),
        cmocka_unit_test(limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
