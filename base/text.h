/* base/text.h
 * Text from files and users on its way to a terminal. */
#ifndef TRIREME_BASE_TEXT_H
#define TRIREME_BASE_TEXT_H

#include <stddef.h>

/* Make n bytes harmless in place: '?' for each byte of a control character (C0, DEL, C1), of a
 * character that ends lines or turns the direction of writing (U+2028 to U+202E, U+2066 to
 * U+2069), and for each byte that is no UTF-8. So a name out of a hostile file cannot drive a
 * terminal, forge a second line, or hide what stands behind it. Other text stays as it is.
 * Local, any thread. */
void base_text_clean(char *text, size_t n);

#endif
