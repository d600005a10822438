/* base/status.c: texts of errors and the end of a broken invariant. */
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const struct {
    int         exit_status;
    const char *name;
} status_table[] = {
#define X(code, exit_status, name) {exit_status, name},
    BASE_STATUS_LIST(X)
#undef X
};
_Static_assert(sizeof(status_table) / sizeof(status_table[0]) == BASE_STATUS_COUNT,
               "one row a code");

base_status_t base_fail(base_err_t *err, base_status_t code, const char *format, ...)
{
    va_list args;

    base_assert(code != BASE_OK);
    if (err == NULL) return code;
    err->code = code;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    base_text_clean(err->text, strlen(err->text));
    return code;
}

int base_status_exit(base_status_t code)
{
    if ((unsigned)code >= BASE_STATUS_COUNT) return 1;
    return status_table[code].exit_status;
}

const char *base_status_name(base_status_t code)
{
    if ((unsigned)code >= BASE_STATUS_COUNT) return "unknown";
    return status_table[code].name;
}

_Noreturn void base_assert_failed(const char *cond, const char *file, int line, const char *func)
{
    (void)fprintf(stderr,
                  "trireme: a bug: %s:%d: %s: '%s' does not hold. Please report this line.\n", file,
                  line, func, cond);
    abort();
}
