/* partition/step_wire.h
 * One step's command, to and from the bytes of proto/control.proto (Step). No allocation. */
#ifndef TRIREME_PARTITION_STEP_WIRE_H
#define TRIREME_PARTITION_STEP_WIRE_H

#include "partition/batch.h"

/* Room that any step fits in: LIMIT_BATCH ids and the four numbers of LIMIT_SEQUENCES runs, each of
 * at most 5 bytes, and the rest. */
enum { PART_STEP_MAX_BYTES = LIMIT_BATCH * 5 + LIMIT_SEQUENCES * 4 * 5 + 64 };

typedef enum {
    PART_STEP_TOKENS = 1, /* tokens go through the layers */
    PART_STEP_STATS,      /* every rank hands its counters to rank 0 */
    PART_STEP_STOP        /* the last message: leave */
} part_step_kind_t;

typedef struct {
    part_step_kind_t kind;
    part_batch_t     batch; /* TOKENS; of others all 0 */
    bool             reset; /* STATS: set the counters to 0 afterwards */
} part_step_t;

/* Where an unpacked step's runs and ids go. */
typedef struct {
    part_run_t runs[LIMIT_SEQUENCES];
    int32_t    ids[LIMIT_BATCH];
} part_step_room_t;

/* Bytes of a sound step (asserted) into buf; capacity >= PART_STEP_MAX_BYTES always suffices.
 * *n_p: bytes written. Status: OK | LIMIT (buf is too small). Local. */
base_status_t part_step_pack(const part_step_t *step, uint8_t *buf, size_t capacity, size_t *n_p,
                             base_err_t *err);

/* The inverse, of bytes that may hold anything. A batch is checked (part_batch_check) against
 * `limits`, and points into *room. Status: OK | PEER. Local, 30 KB of stack. */
base_status_t part_step_unpack(const uint8_t *buf, size_t n, const part_batch_limits_t *limits,
                               part_step_t *step, part_step_room_t *room, base_err_t *err);

#endif
