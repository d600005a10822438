/* launch/output.c: standard input and output of the commands. */
#include "launch/output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"

enum { READ_BYTES = 1 << 16, JSON_DIGITS = 15 };

int out_fail(const base_err_t *err)
{
    base_log(BASE_LOG_ERROR, "%s", err->text);
    return base_status_exit(err->code);
}

/* Bytes of the valid UTF-8 character at p (at most n bytes), 0 if there is none: RFC 3629. */
static size_t utf8_bytes(const unsigned char *p, size_t n)
{
    size_t        want  = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    unsigned char least = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most  = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

    if (want == 0 || p[0] > 0xf4 || want > n) return 0;
    for (size_t i = 1; i < want; i++) {
        if (p[i] < least || p[i] > most) return 0;
        least = 0x80;
        most  = 0xbf;
    }
    return want;
}

json_t *out_json_text(const char *text, size_t bytes)
{
    const unsigned char *p     = (const unsigned char *)text;
    char                *clean = malloc(bytes * 3 + 1);
    json_t              *value = NULL;
    size_t               n     = 0;

    if (clean == NULL) return NULL;
    for (size_t i = 0; i < bytes;) {
        size_t k = utf8_bytes(p + i, bytes - i);
        if (k == 0) {
            memcpy(clean + n, "\xef\xbf\xbd", 3);
            n += 3;
            i++;
            continue;
        }
        memcpy(clean + n, p + i, k);
        n += k;
        i += k;
    }
    value = json_stringn(clean, n);
    free(clean);
    return value;
}

json_t *out_json_real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *out_json_ids(const int32_t *ids, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n && list != NULL; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

base_status_t out_flush(base_err_t *err)
{
    errno = 0;
    if ((fflush(stdout) == 0 && ferror(stdout) == 0) || errno == EPIPE) return BASE_OK;
    return base_fail(err, BASE_ERR_SYSTEM, "standard output: %s",
                     errno != 0 ? strerror(errno) : "an earlier write failed");
}

base_status_t out_write(const char *text, size_t bytes, bool *gone, base_err_t *err)
{
    base_status_t st = out_flush(err);

    while (st == BASE_OK && bytes > 0) {
        ssize_t n = write(STDOUT_FILENO, text, bytes);
        if (n < 0 && errno == EINTR) continue; /* handlers are installed without SA_RESTART */
        if (n < 0 && errno == EPIPE) {
            if (gone != NULL) *gone = true;
            return BASE_OK;
        }
        if (n < 0) return base_fail(err, BASE_ERR_SYSTEM, "standard output: %s", strerror(errno));
        text += n;
        bytes -= (size_t)n;
    }
    return st;
}

base_status_t out_json_write(json_t **value, base_err_t *err)
{
    char         *text = NULL;
    base_status_t st   = BASE_OK;

    if (*value != NULL)
        text = json_dumps(*value, JSON_REAL_PRECISION(JSON_DIGITS) | JSON_ENCODE_ANY);
    json_decref(*value);
    *value = NULL;
    if (text == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the JSON value");
    st = out_write(text, strlen(text), NULL, err);
    if (st == BASE_OK) st = out_write("\n", 1, NULL, err);
    free(text);
    return st;
}

base_status_t out_read_all(const char *path, char **text, size_t *bytes, base_err_t *err)
{
    bool          standard = strcmp(path, "-") == 0;
    const char   *name     = standard ? "standard input" : path;
    FILE         *file     = standard ? stdin : fopen(path, "rb");
    char         *all      = NULL;
    size_t        n        = 0;
    size_t        room     = 0;
    base_status_t st       = BASE_OK;

    if (file == NULL) {
        st = base_fail(err, BASE_ERR_IO, "%s: %s", name, strerror(errno));
        goto out;
    }
    while (true) {
        if (room - n <= 1) {
            room        = room == 0 ? READ_BYTES : room * 2;
            char *grown = realloc(all, room);
            if (grown == NULL) {
                st = base_fail(err, BASE_ERR_MEMORY, "%s: no memory for %zu bytes", name, room);
                goto out;
            }
            all = grown;
        }
        size_t got = fread(all + n, 1, room - n - 1, file);
        n += got;
        if (n > (size_t)LIMIT_TEXT_BYTES) {
            st = base_fail(err, BASE_ERR_LIMIT, "%s: more than %d bytes of text", name,
                           LIMIT_TEXT_BYTES);
            goto out;
        }
        if (got > 0) continue;
        if (ferror(file) == 0) break;
        st = base_fail(err, BASE_ERR_IO, "%s: %s", name, strerror(errno));
        goto out;
    }
    all[n] = '\0';
    *text  = all;
    *bytes = n;
    all    = NULL;
out:
    if (file != NULL && !standard) (void)fclose(file);
    free(all);
    return st;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

size_t out_unescape(char *text, size_t bytes)
{
    static const char from[] = "nrt\"'\\";
    static const char to[]   = "\n\r\t\"'\\";
    size_t            n      = 0;

    for (size_t i = 0; i < bytes; i++) {
        const char *found = NULL;
        if (text[i] == '\\' && i + 1 < bytes && text[i + 1] != '\0')
            found = strchr(from, text[i + 1]);
        if (found != NULL) {
            text[n++] = to[found - from];
            i++;
        } else if (text[i] == '\\' && i + 3 < bytes && text[i + 1] == 'x' &&
                   hex_digit(text[i + 2]) >= 0 && hex_digit(text[i + 3]) >= 0) {
            text[n++] = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
            i += 3;
        } else {
            text[n++] = text[i];
        }
    }
    text[n] = '\0';
    return n;
}

const char *out_bytes(uint64_t bytes, char *buf, size_t buf_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double                   v       = (double)bytes;
    size_t                   u       = 0;

    for (; v >= 1024 && u + 1 < sizeof(units) / sizeof(units[0]); u++) v /= 1024;
    if (u == 0)
        (void)snprintf(buf, buf_bytes, "%" PRIu64 " B", bytes);
    else
        (void)snprintf(buf, buf_bytes, "%.2f %s", v, units[u]);
    return buf;
}
