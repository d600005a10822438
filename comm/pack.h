/* comm/pack.h
 * int32 values in as few bytes each as hold all of them: 0 (all are zero), 1, 2, 3 or 4. The width
 * is found by looking at the values, so nothing need be known about them and nothing is lost.
 * Partial sums of a column-split product are at most 128 * columns (3 bytes hold 65535 columns
 * whatever the values) and mostly fit into 2. Local; no allocation. */
#ifndef TRIREME_COMM_PACK_H
#define TRIREME_COMM_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { COMM_PACK_HEAD = 16 }; /* bytes ahead of the values: the width, little endian, then zeros */

/* Bytes that n values take at most. */
size_t comm_pack_room(size_t n);
/* Write n values to `to` (comm_pack_room(n) bytes, 4-byte aligned); returns the bytes used. */
size_t comm_pack_i32(uint8_t *to, const int32_t *from, size_t n);
/* Add the n values of `from` (comm_pack_room(n) bytes readable) to `to`, or store them there.
 * Status: OK | PEER (a width that nobody writes). */
base_status_t comm_pack_add(int32_t *to, const uint8_t *from, size_t n, base_err_t *err);
base_status_t comm_pack_store(int32_t *to, const uint8_t *from, size_t n, base_err_t *err);

/* Plain 16 bits, for shared memory: false, and `to` undefined, if a value does not fit. */
bool comm_pack_narrow(int16_t *to, const int32_t *from, size_t n);
/* to[i] += from[i]. They do not overlap. */
void comm_pack_add_narrow(int32_t *to, const int16_t *from, size_t n);

#endif
