/* base/status.h
 * Status codes, error text, and the assertion for broken invariants.
 *
 * A fallible function returns base_status_t and takes `base_err_t *err` last. The function that
 * decides an error writes its text (base_fail); callers pass it on in silence. Outputs are set
 * only on BASE_OK. `err` may be NULL where the text is not wanted. */
#ifndef TRIREME_BASE_STATUS_H
#define TRIREME_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* code, exit status of the process, short name. Grouped by what must be rebuilt:
 * the request (usage, input), or the run (everything else). */
#define BASE_STATUS_LIST(X)                                                                        \
    X(BASE_OK, 0, "ok")                                                                            \
    X(BASE_ERR_USAGE, 2, "usage")             /* the command line is wrong */                      \
    X(BASE_ERR_INPUT, 3, "bad input")         /* a file or text is damaged or does not fit */      \
    X(BASE_ERR_UNSUPPORTED, 3, "unsupported") /* a sound file that this program does not run */    \
    X(BASE_ERR_LIMIT, 3, "over a limit")      /* a value above base/limits.h */                    \
    X(BASE_ERR_IO, 3, "cannot read")          /* a path that cannot be opened, mapped, written */  \
    X(BASE_ERR_MEMORY, 1, "out of memory")                                                         \
    X(BASE_ERR_SYSTEM, 1, "system")     /* a call of the operating system failed */                \
    X(BASE_ERR_PEER, 1, "peer")         /* another rank failed or sent what it must not */         \
    X(BASE_ERR_DEADLINE, 1, "deadline") /* a wait took too long */                                 \
    X(BASE_ERR_INTERRUPTED, 130, "interrupted")

typedef enum {
#define X(code, exit_status, name) code,
    BASE_STATUS_LIST(X)
#undef X
        BASE_STATUS_COUNT
} base_status_t;

enum { BASE_ERR_TEXT_BYTES = 512 };

typedef struct {
    base_status_t code;
    char          text[BASE_ERR_TEXT_BYTES]; /* one line, NUL-terminated, no control characters */
} base_err_t;

/* Write code and text into err (may be NULL) and return code. What could drive a terminal becomes
 * '?' (base/text.h). Local, any thread. */
base_status_t base_fail(base_err_t *err, base_status_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Exit status of the process for a code; short name of a code. Unknown codes give 1, "unknown". */
int         base_status_exit(base_status_t code);
const char *base_status_name(base_status_t code);

/* The ending of a plural: "%u rank%s", n, base_plural(n). */
static inline const char *base_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* A broken invariant is a bug, not an error: print and abort. Kept in release. */
#define base_assert(cond)                                                                          \
    ((cond) ? (void)0 : base_assert_failed(#cond, __FILE__, __LINE__, __func__))
_Noreturn void base_assert_failed(const char *cond, const char *file, int line, const char *func);

#endif
