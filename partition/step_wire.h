/* partition/step_wire.h
 * One step's command, to and from the bytes of proto/control.proto (Step). No allocation. */
#ifndef TRIREME_PARTITION_STEP_WIRE_H
#define TRIREME_PARTITION_STEP_WIRE_H

#include "base/limits.h"
#include "base/status.h"

/* Room that any step fits in: LIMIT_BATCH ids of at most 5 bytes, and the rest. */
enum { PART_STEP_MAX_BYTES = LIMIT_BATCH * 5 + 64 };

typedef enum {
    PART_STEP_TOKENS = 1, /* tokens go through the layers */
    PART_STEP_STATS,      /* every rank hands its counters to rank 0 */
    PART_STEP_STOP        /* the last message: leave */
} part_step_kind_t;

typedef struct {
    part_step_kind_t kind;
    uint32_t         pos;   /* TOKENS: position of the first token; pos + n_ids <= LIMIT_CONTEXT */
    uint32_t         n_out; /* TOKENS: logits wanted for the last n_out tokens, 0..n_ids */
    uint32_t         n_ids; /* TOKENS: 1..LIMIT_BATCH */
    const int32_t   *ids;   /* each 0..LIMIT_VOCAB-1 */
    bool             reset; /* STATS: set the counters to 0 afterwards */
} part_step_t;

/* Bytes of a sound step (asserted) into buf; capacity >= PART_STEP_MAX_BYTES always suffices.
 * *n_p: bytes written. Status: OK | LIMIT (buf is too small). Local. */
base_status_t part_step_pack(const part_step_t *step, uint8_t *buf, size_t capacity, size_t *n_p,
                             base_err_t *err);

/* The inverse, of bytes that may hold anything. The ids are copied into `ids`, room for max_ids
 * (1..LIMIT_BATCH), and step->ids points there. That ids are below the model's vocabulary and pos
 * within the KV cache is the worker's to check. Status: OK | PEER. Local, 20 KB of stack. */
base_status_t part_step_unpack(const uint8_t *buf, size_t n, part_step_t *step, int32_t *ids,
                               uint32_t max_ids, base_err_t *err);

#endif
