/* tests/base/text.c: what a terminal may be shown, and that log lines and errors go through it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"

/* C0, DEL, C1 (U+009B is CSI), directions, ends of lines; no UTF-8; then what stays. */
static const struct {
    const char *from, *to;
} rows[] = {
    {"a\x1b[31mb\x07", "a?[31mb?"},
    {"a\nb\tc\x7f", "a?b?c?"},
    {"\xc2\x9b"
     "31m",
     "??31m"},
    {"x\xe2\x80\xae"
     "exe",
     "x???exe"},
    {"\xe2\x81\xa6|\xe2\x81\xa9|\xe2\x80\xa8", "???|???|???"},
    {"\x9b|\xff|\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82", "?|?|??|???|????|??"},
    {"\xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xaf",
     "\xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xaf"},
    {"", ""},
};

static void cleans(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%s", rows[i].from);
        base_text_clean(text, strlen(text));
        assert_string_equal(text, rows[i].to);
    }
    char nul[] = "a\0b"; /* a NUL inside is a control character like others */
    base_text_clean(nul, 3);
    assert_memory_equal(nul, "a?b", 3);
}

static void errors(void **state)
{
    base_err_t err;
    char       text[256];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)base_fail(&err, BASE_ERR_INPUT, "file: tensor %s", rows[i].from);
        (void)snprintf(text, sizeof(text), "file: tensor %s", rows[i].to);
        assert_string_equal(err.text, text);
    }
}

/* What base_log() writes to the standard error, caught by a pipe. */
static void logs(void **state)
{
    char line[256], want[256];
    int  ends[2];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(pipe(ends), 0);
        const int before = dup(STDERR_FILENO);
        assert_true(before >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
        base_log(BASE_LOG_WARN, "the first is %s", rows[i].from);
        assert_true(dup2(before, STDERR_FILENO) >= 0);
        const ssize_t n = read(ends[0], line, sizeof(line) - 1);
        (void)close(before);
        (void)close(ends[0]);
        (void)close(ends[1]);
        assert_true(n > 0);
        line[n] = '\0';
        (void)snprintf(want, sizeof(want), "trireme: warning: the first is %s\n", rows[i].to);
        assert_string_equal(line, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleans),
        cmocka_unit_test(errors),
        cmocka_unit_test(logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
