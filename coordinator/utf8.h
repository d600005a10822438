/* coordinator/utf8.h
 * What is a UTF-8 character, strictly: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef TRIREME_COORDINATOR_UTF8_H
#define TRIREME_COORDINATOR_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Can `next` be byte number n (0 .. 3) of a character whose bytes before it are `start`, each of
 * which passed? Returns the length of the whole character (1 .. 4), 0 if it cannot. Pure. */
unsigned coord_utf8_extend(const unsigned char *start, unsigned n, unsigned char next);

/* Bytes (1 .. 4) of the valid character that `text` begins with; 0 if there is none (it is invalid
 * or unfinished, or bytes == 0). Pure. */
unsigned coord_utf8_length(const char *text, size_t bytes);

/* Code point of a valid character of that length. Pure. */
uint32_t coord_utf8_code(const char *text, unsigned length);

#endif
