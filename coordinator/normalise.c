/* coordinator/normalise.c: stretches of ASCII pass, what lies between goes to libunistring (its
 * sort of combining marks is n log n, which matters: a text can be nothing but marks). */
#include "coordinator/normalise.h"

#include <stdlib.h>
#include <string.h>
#include <uninorm.h>

#include "base/limits.h"
#include "coordinator/utf8.h"

typedef struct {
    char  *v;
    size_t n, room;
} buffer_t;

static base_status_t append(buffer_t *b, const char *text, size_t bytes, base_err_t *err)
{
    if (b->n + bytes > LIMIT_TEXT_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "text of more than %d bytes when normalised",
                         LIMIT_TEXT_BYTES);
    if (b->n + bytes > b->room) {
        size_t room = b->room * 2 > b->n + bytes ? b->room * 2 : b->n + bytes;
        void  *more = realloc(b->v, room);

        if (more == NULL)
            return base_fail(err, BASE_ERR_MEMORY, "normalised text: cannot allocate %zu bytes",
                             room);
        b->v    = more;
        b->room = room;
    }
    if (bytes > 0) memcpy(b->v + b->n, text, bytes);
    b->n += bytes;
    return BASE_OK;
}

static uninorm_t form_of(model_normal_t form)
{
    switch (form) {
    case MODEL_NORMAL_NFD: return UNINORM_NFD;
    case MODEL_NORMAL_NFKC: return UNINORM_NFKC;
    case MODEL_NORMAL_NFKD: return UNINORM_NFKD;
    default: return UNINORM_NFC;
    }
}

/* Bytes of valid UTF-8 that end before an ASCII character: none of those ever joins what is before
 * it. The ASCII run itself, without its last character (what follows may join that), comes alone:
 * *plain. */
static size_t next_stretch(const char *text, size_t bytes, bool *plain)
{
    size_t n = 0, length = 0;

    while (n < bytes && (unsigned char)text[n] < 0x80) n++;
    *plain = n == bytes || n > 1;
    if (n == bytes) return n;
    if (n > 1) return n - 1;
    while (n < bytes && (unsigned char)text[n] >= 0x80) {
        length = coord_utf8_length(text + n, bytes - n);
        if (length == 0) break;
        n += length;
    }
    return n;
}

static base_status_t append_form(buffer_t *b, uninorm_t form, const char *text, size_t bytes,
                                 base_err_t *err)
{
    size_t n         = 0;
    uint8_t *new     = u8_normalize(form, (const uint8_t *)text, bytes, NULL, &n);
    base_status_t st = BASE_OK;

    if (new == NULL)
        return base_fail(err, BASE_ERR_MEMORY, "cannot normalise a text of %zu bytes: no memory",
                         bytes);
    st = append(b, (const char *)new, n, err);
    free(new);
    return st;
}

base_status_t coord_normalise(model_normal_t form, const char *text, size_t bytes, char **out,
                              size_t *out_bytes, base_err_t *err)
{
    buffer_t      b  = {0};
    base_status_t st = BASE_OK;

    *out = NULL;
    if (form == MODEL_NORMAL_NONE || bytes == 0) return BASE_OK;
    for (size_t at = 0; at < bytes && st == BASE_OK;) {
        bool   plain = false;
        size_t n     = next_stretch(text + at, bytes - at, &plain);

        if (at == 0 && n == bytes && plain) return BASE_OK; /* ASCII: most texts */
        if (n == 0) {                                       /* a byte that is no UTF-8 */
            plain = true;
            n     = 1;
        }
        st = plain ? append(&b, text + at, n, err)
                   : append_form(&b, form_of(form), text + at, n, err);
        at += n;
    }
    if (st == BASE_OK && (b.n != bytes || memcmp(b.v, text, bytes) != 0)) {
        *out       = b.v;
        *out_bytes = b.n;
        b.v        = NULL;
    }
    free(b.v);
    return st;
}
