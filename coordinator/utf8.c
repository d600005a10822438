/* coordinator/utf8.c: Unicode 15, table 3-7, "Well-Formed UTF-8 Byte Sequences". */
#include "coordinator/utf8.h"

static unsigned length_of_lead(unsigned char lead)
{
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) return 3;
    return lead < 0xF5 ? 4 : 0;
}

unsigned coord_utf8_extend(const unsigned char *start, unsigned n, unsigned char next)
{
    unsigned length;

    if (n == 0) return length_of_lead(next);
    length = length_of_lead(start[0]);
    if (n >= length) return 0;
    if (n == 1) { /* the second byte rules out overlong forms, surrogates, and what is too large */
        unsigned char low = 0x80, high = 0xBF;

        switch (start[0]) {
        case 0xE0: low = 0xA0; break;
        case 0xED: high = 0x9F; break;
        case 0xF0: low = 0x90; break;
        case 0xF4: high = 0x8F; break;
        default: break;
        }
        return next >= low && next <= high ? length : 0;
    }
    return (next & 0xC0) == 0x80 ? length : 0;
}

unsigned coord_utf8_length(const char *text, size_t bytes)
{
    const unsigned char *p      = (const unsigned char *)text;
    unsigned             length = bytes > 0 ? length_of_lead(p[0]) : 0;

    if (length > bytes) return 0;
    for (unsigned i = 1; i < length; i++)
        if (coord_utf8_extend(p, i, p[i]) == 0) return 0;
    return length;
}

uint32_t coord_utf8_code(const char *text, unsigned length)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t             c = p[0];

    if (length == 1) return c;
    c &= 0xFFU >> (length + 1);
    for (unsigned i = 1; i < length; i++) c = c << 6 | (p[i] & 0x3FU);
    return c;
}
