/* partition/step_wire.c: the command of one step on the wire. It runs once per token, so protobuf-c
 * works in a buffer on the stack. */
#include "partition/step_wire.h"

#include <string.h>

#include "proto/control.pb-c.h"

_Static_assert(PART_STEP_TOKENS == (int)TRIREME__STEP_KIND__STEP_TOKENS &&
                   PART_STEP_STATS == (int)TRIREME__STEP_KIND__STEP_STATS &&
                   PART_STEP_STOP == (int)TRIREME__STEP_KIND__STEP_STOP,
               "kinds have the numbers of control.proto");

/* The numbers, the message itself, and slack for the decoder's own lists: a message that needs more
 * is not ours. */
enum {
    RUN_FIELDS = 4, /* seq, pos, n, n_out */
    BUMP_ALIGN = 16,
    BUMP_BYTES = (LIMIT_BATCH + LIMIT_SEQUENCES * RUN_FIELDS) * 4 + 2048,
};

typedef struct {
    _Alignas(BUMP_ALIGN) uint8_t bytes[BUMP_BYTES];
    size_t used;
} bump_t;

static void *bump_take(void *context, size_t bytes)
{
    bump_t *b = context;

    if (bytes > BUMP_BYTES - b->used) return NULL;
    void *p = b->bytes + b->used;
    b->used += (bytes + BUMP_ALIGN - 1) / BUMP_ALIGN * BUMP_ALIGN;
    if (b->used > BUMP_BYTES) b->used = BUMP_BYTES;
    return p;
}

static void bump_free(void *context, void *p)
{
    (void)context;
    (void)p;
}

base_status_t part_step_pack(const part_step_t *step, uint8_t *buf, size_t capacity, size_t *n_p,
                             base_err_t *err)
{
    const part_batch_t *b       = &step->batch;
    Trireme__Step       message = TRIREME__STEP__INIT;
    uint32_t            runs[LIMIT_SEQUENCES * RUN_FIELDS];

    message.kind = (Trireme__StepKind)step->kind;
    if (step->kind == PART_STEP_TOKENS) {
        base_assert(b->n_ids >= 1 && b->n_ids <= LIMIT_BATCH);
        base_assert(b->n_runs >= 1 && b->n_runs <= LIMIT_SEQUENCES);
        for (uint32_t i = 0; i < b->n_runs; i++) {
            runs[i * RUN_FIELDS]     = b->runs[i].seq;
            runs[i * RUN_FIELDS + 1] = b->runs[i].pos;
            runs[i * RUN_FIELDS + 2] = b->runs[i].n;
            runs[i * RUN_FIELDS + 3] = b->runs[i].n_out;
        }
        message.n_run     = (size_t)b->n_runs * RUN_FIELDS;
        message.run       = runs;
        message.has_n_top = 1;
        message.n_top     = b->n_top;
        message.n_id      = b->n_ids;
        message.id        = (int32_t *)b->ids; /* only read */
    } else {
        base_assert(step->kind == PART_STEP_STATS || step->kind == PART_STEP_STOP);
        message.has_reset = step->kind == PART_STEP_STATS;
        message.reset     = step->reset;
    }
    size_t n = trireme__step__get_packed_size(&message);
    if (n > capacity)
        return base_fail(err, BASE_ERR_LIMIT, "step of %u tokens: %zu bytes, room for %zu",
                         b->n_ids, n, capacity);
    *n_p = trireme__step__pack(&message, buf);
    return BASE_OK;
}

/* The batch of a message of tokens, into *room. */
static base_status_t batch_take(const Trireme__Step *m, const part_batch_limits_t *limits,
                                part_step_room_t *room, part_batch_t *batch, base_err_t *err)
{
    base_err_t why = {0};

    if (m->n_id > LIMIT_BATCH)
        return base_fail(err, BASE_ERR_PEER, "step: %zu tokens, limit %d", m->n_id, LIMIT_BATCH);
    if (m->n_run % RUN_FIELDS != 0 || m->n_run / RUN_FIELDS > LIMIT_SEQUENCES)
        return base_fail(err, BASE_ERR_PEER,
                         "step: %zu numbers of runs, expected %d for each of up to %d", m->n_run,
                         RUN_FIELDS, LIMIT_SEQUENCES);
    if (m->reset) return base_fail(err, BASE_ERR_PEER, "step: reset belongs to statistics");
    for (size_t i = 0; i < m->n_run / RUN_FIELDS; i++)
        room->runs[i] = (part_run_t){.seq   = m->run[i * RUN_FIELDS],
                                     .pos   = m->run[i * RUN_FIELDS + 1],
                                     .n     = m->run[i * RUN_FIELDS + 2],
                                     .n_out = m->run[i * RUN_FIELDS + 3]};
    if (m->n_id > 0) memcpy(room->ids, m->id, m->n_id * sizeof(*room->ids));
    *batch = (part_batch_t){.runs   = room->runs,
                            .ids    = room->ids,
                            .n_runs = (uint32_t)(m->n_run / RUN_FIELDS),
                            .n_ids  = (uint32_t)m->n_id,
                            .n_top  = m->n_top};
    if (part_batch_check(batch, limits, &why) != BASE_OK)
        return base_fail(err, BASE_ERR_PEER, "step: %s", why.text);
    return BASE_OK;
}

base_status_t part_step_unpack(const uint8_t *buf, size_t n, const part_batch_limits_t *limits,
                               part_step_t *step, part_step_room_t *room, base_err_t *err)
{
    bump_t             bump;
    ProtobufCAllocator allocator = {bump_take, bump_free, &bump};
    Trireme__Step     *m         = NULL;
    part_batch_t       batch     = {0};

    bump.used = 0;
    if (n <= PART_STEP_MAX_BYTES) m = trireme__step__unpack(&allocator, n, buf);
    if (m == NULL)
        return base_fail(err, BASE_ERR_PEER, "step: %zu bytes are no step message of this build",
                         n);

    switch ((int)m->kind) {
    case PART_STEP_TOKENS: {
        base_status_t st = batch_take(m, limits, room, &batch, err);
        if (st != BASE_OK) return st;
        break;
    }
    case PART_STEP_STATS:
    case PART_STEP_STOP:
        if (m->n_id != 0 || m->n_run != 0 || m->n_top != 0 ||
            (m->reset && m->kind != TRIREME__STEP_KIND__STEP_STATS))
            return base_fail(err, BASE_ERR_PEER, "step of kind %d: holds fields of another kind",
                             (int)m->kind);
        break;
    default: return base_fail(err, BASE_ERR_PEER, "step: kind %d, expected 1..3", (int)m->kind);
    }
    *step =
        (part_step_t){.kind = (part_step_kind_t)m->kind, .batch = batch, .reset = m->reset != 0};
    return BASE_OK;
}
