/* worker/feed_wire.h
 * Inside of the room: an ask for a window of a tensor, to and from COMM_ASK_BYTES bytes. */
#ifndef TRIREME_WORKER_FEED_WIRE_H
#define TRIREME_WORKER_FEED_WIRE_H

#include "model/units.h"

/* done, total: bytes that the asker has, and will have when it needs no more; for progress. */
void worker_ask_pack(const model_window_t *window, uint64_t done, uint64_t total, uint8_t *out);
void worker_ask_unpack(const uint8_t *ask, model_window_t *window, uint64_t *done, uint64_t *total);

#endif
