/* base/text.c: text that a terminal may show. */
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

/* The character at p, at most n bytes: its length, 0 when it is no UTF-8 (RFC 3629). */
static size_t decode(const unsigned char *p, size_t n, uint32_t *out)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t          length  = p[0] < 0x80             ? 1
                                    : (p[0] & 0xe0) == 0xc0 ? 2
                                    : (p[0] & 0xf0) == 0xe0 ? 3
                                    : (p[0] & 0xf8) == 0xf0 ? 4
                                                            : 0;
    if (length == 0 || length > n) return 0;
    uint32_t c = length == 1 ? p[0] : p[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    *out = c;
    return c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : length;
}

static bool is_harmless(uint32_t c)
{
    return c >= 0x20 && !(c >= 0x7f && c < 0xa0) && !(c >= 0x2028 && c <= 0x202e) &&
           !(c >= 0x2066 && c <= 0x2069);
}

void base_text_clean(char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t     c      = 0;
        const size_t length = decode((const unsigned char *)text + i, n - i, &c);
        const size_t end    = i + (length == 0 ? 1 : length);
        const bool   keep   = length > 0 && is_harmless(c);
        for (; i < end; i++)
            if (!keep) text[i] = '?';
    }
}
