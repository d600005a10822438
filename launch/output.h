/* launch/output.h
 * Standard input and output of the commands: JSON values, error lines, whole inputs. */
#ifndef TRIREME_LAUNCH_OUTPUT_H
#define TRIREME_LAUNCH_OUTPUT_H

#include <jansson.h>

#include "base/status.h"

/* Say the error, one line on stderr; returns the exit status. */
int out_fail(const base_err_t *err);

/* JSON text of any bytes: what is not UTF-8 becomes U+FFFD. NULL when memory ends. */
json_t *out_json_text(const char *text, size_t bytes);
/* JSON number; null where v is not finite. */
json_t *out_json_real(double v);
json_t *out_json_ids(const int32_t *ids, size_t n);

/* Write all of it to stdout now; signals do not cut it short. *gone (may be NULL) becomes true when
 * nobody reads any more, which is not an error. Status: OK | SYSTEM. */
base_status_t out_write(const char *text, size_t bytes, bool *gone, base_err_t *err);

/* Write *value (NULL: memory ended while it was made) and a newline to stdout, and release it.
 * A reader that has gone is not an error. Status: OK | MEMORY | SYSTEM. */
base_status_t out_json_write(json_t **value, base_err_t *err);

/* Push everything to stdout's reader. Status: OK (also when the reader has gone) | SYSTEM. */
base_status_t out_flush(base_err_t *err);

/* A whole file, or standard input for "-". *text is malloc'd, NUL behind its *bytes bytes.
 * Status: OK | IO | LIMIT (LIMIT_TEXT_BYTES) | MEMORY. */
base_status_t out_read_all(const char *path, char **text, size_t *bytes, base_err_t *err);

/* Replace \n \r \t \" \' \\ \xHH in place; returns the new length (a NUL is put behind it). */
size_t out_unescape(char *text, size_t bytes);

/* "1.50 GiB" into buf. */
const char *out_bytes(uint64_t bytes, char *buf, size_t buf_bytes);

#endif
