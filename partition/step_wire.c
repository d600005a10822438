/* partition/step_wire.c: the command of one step on the wire. It runs once per token, so protobuf-c
 * works in a buffer on the stack. */
#include "partition/step_wire.h"

#include <string.h>

#include "proto/control.pb-c.h"

_Static_assert(PART_STEP_TOKENS == (int)TRIREME__STEP_KIND__STEP_TOKENS &&
                   PART_STEP_STATS == (int)TRIREME__STEP_KIND__STEP_STATS &&
                   PART_STEP_STOP == (int)TRIREME__STEP_KIND__STEP_STOP,
               "kinds have the numbers of control.proto");

/* The ids, the message itself, and slack for the decoder's own lists: a message that needs more is
 * not ours. */
enum { BUMP_ALIGN = 16, BUMP_BYTES = LIMIT_BATCH * 4 + 2048 };

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
    Trireme__Step message = TRIREME__STEP__INIT;

    message.kind = (Trireme__StepKind)step->kind;
    if (step->kind == PART_STEP_TOKENS) {
        base_assert(step->n_ids >= 1 && step->n_ids <= LIMIT_BATCH && step->n_out <= step->n_ids);
        base_assert(step->pos <= LIMIT_CONTEXT - step->n_ids);
        message.has_pos   = 1;
        message.pos       = step->pos;
        message.has_n_out = 1;
        message.n_out     = step->n_out;
        message.n_id      = step->n_ids;
        message.id        = (int32_t *)step->ids; /* only read */
    } else {
        base_assert(step->kind == PART_STEP_STATS || step->kind == PART_STEP_STOP);
        message.has_reset = step->kind == PART_STEP_STATS;
        message.reset     = step->reset;
    }
    size_t n = trireme__step__get_packed_size(&message);
    if (n > capacity)
        return base_fail(err, BASE_ERR_LIMIT, "step of %u tokens: %zu bytes, room for %zu",
                         step->n_ids, n, capacity);
    *n_p = trireme__step__pack(&message, buf);
    return BASE_OK;
}

static base_status_t tokens_check(const Trireme__Step *m, uint32_t max_ids, base_err_t *err)
{
    if (m->n_id < 1 || m->n_id > max_ids)
        return base_fail(err, BASE_ERR_PEER, "step: %zu tokens, expected 1..%u", m->n_id, max_ids);
    if (m->pos > LIMIT_CONTEXT - m->n_id)
        return base_fail(err, BASE_ERR_PEER, "step: %zu tokens at position %u, limit %d", m->n_id,
                         m->pos, LIMIT_CONTEXT);
    if (m->n_out > m->n_id)
        return base_fail(err, BASE_ERR_PEER, "step: logits of %u tokens wanted, but it has %zu",
                         m->n_out, m->n_id);
    for (size_t i = 0; i < m->n_id; i++) {
        if (m->id[i] < 0 || m->id[i] >= LIMIT_VOCAB)
            return base_fail(err, BASE_ERR_PEER, "step: token %zu is %d, expected 0..%d", i,
                             m->id[i], LIMIT_VOCAB - 1);
    }
    if (m->reset) return base_fail(err, BASE_ERR_PEER, "step: reset belongs to statistics");
    return BASE_OK;
}

base_status_t part_step_unpack(const uint8_t *buf, size_t n, part_step_t *step, int32_t *ids,
                               uint32_t max_ids, base_err_t *err)
{
    bump_t             bump;
    ProtobufCAllocator allocator = {bump_take, bump_free, &bump};
    Trireme__Step     *m         = NULL;

    base_assert(max_ids >= 1 && max_ids <= LIMIT_BATCH);
    bump.used = 0;
    if (n <= PART_STEP_MAX_BYTES) m = trireme__step__unpack(&allocator, n, buf);
    if (m == NULL)
        return base_fail(err, BASE_ERR_PEER, "step: %zu bytes are no step message of this build",
                         n);

    switch ((int)m->kind) {
    case PART_STEP_TOKENS: {
        base_status_t st = tokens_check(m, max_ids, err);
        if (st != BASE_OK) return st;
        break;
    }
    case PART_STEP_STATS:
    case PART_STEP_STOP:
        if (m->n_id != 0 || m->pos != 0 || m->n_out != 0 ||
            (m->reset && m->kind != TRIREME__STEP_KIND__STEP_STATS))
            return base_fail(err, BASE_ERR_PEER, "step of kind %d: holds fields of another kind",
                             (int)m->kind);
        break;
    default: return base_fail(err, BASE_ERR_PEER, "step: kind %d, expected 1..3", (int)m->kind);
    }
    if (m->n_id > 0) memcpy(ids, m->id, m->n_id * sizeof(*ids));
    *step = (part_step_t){.kind  = (part_step_kind_t)m->kind,
                          .pos   = m->pos,
                          .n_out = m->n_out,
                          .n_ids = (uint32_t)m->n_id,
                          .ids   = ids,
                          .reset = m->reset != 0};
    return BASE_OK;
}
