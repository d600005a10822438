/* worker/feed_server.c: the side of a weight stream that has the file. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "model/bytes.h"
#include "worker/feed.h"
#include "worker/feed_wire.h"

enum { FIELDS = 12 };
_Static_assert(FIELDS * sizeof(uint64_t) <= COMM_ASK_BYTES, "an ask fits its message");

void worker_ask_pack(const model_window_t *w, uint64_t done, uint64_t total, uint8_t *out)
{
    const model_tensor_t *t              = &w->tensor;
    const uint64_t        fields[FIELDS] = {(uint64_t)t->type, t->file,     t->offset, t->n_rows,
                                            t->n_cols,         w->strips,   w->tile0,  w->n_tiles,
                                            w->strip0,         w->n_strips, done,      total};
    memset(out, 0, COMM_ASK_BYTES);
    for (size_t i = 0; i < FIELDS; i++) model_store_u64(out + 8 * i, fields[i]);
}

void worker_ask_unpack(const uint8_t *ask, model_window_t *w, uint64_t *done, uint64_t *total)
{
    uint64_t f[FIELDS];
    for (size_t i = 0; i < FIELDS; i++) f[i] = model_load_u64(ask + 8 * i);
    *w = (model_window_t){
        .strips = f[5] != 0, .tile0 = f[6], .n_tiles = f[7], .strip0 = f[8], .n_strips = f[9]};
    w->tensor = (model_tensor_t){.type = f[0] < MODEL_TYPE_COUNT ? (model_type_t)f[0] : MODEL_NONE,
                                 .file = f[1] <= UINT32_MAX ? (uint32_t)f[1] : UINT32_MAX,
                                 .offset = f[2],
                                 .n_rows = f[3],
                                 .n_cols = f[4]};
    *done     = f[10];
    *total    = f[11];
}

/* Rank 0's line: all ranks that ask here. */
static void show(const worker_server_t *s)
{
    uint64_t done = 0, total = 0;
    for (uint32_t r = 0; r < s->n_ranks; r++) {
        done += s->done[r];
        total += s->total[r];
    }
    if (s->progress && done < total) base_progress_bytes("sending weights", done, total);
}

static base_status_t check_ask(const worker_server_t *s, int from, model_window_t *w,
                               base_err_t *err)
{
    const model_type_info_t *info = model_type_info(w->tensor.type);
    base_err_t               why  = {0};
    if (w->tensor.type == MODEL_NONE || w->tensor.n_cols % info->block_elems != 0 ||
        !model_tensor_bytes(w->tensor.type, w->tensor.n_rows, w->tensor.n_cols, &w->tensor.bytes))
        return base_fail(err, BASE_ERR_PEER, "rank %d asked for weights that cannot be", from);
    if (model_source_check(s->source, &w->tensor, "asked for", &why) != BASE_OK)
        return base_fail(err, BASE_ERR_PEER, "rank %d: %.400s", from, why.text);
    if (!model_window_check(w))
        return base_fail(err, BASE_ERR_PEER,
                         "rank %d asked for tiles %" PRIu64 " + %" PRIu64 " of a tensor of %" PRIu64
                         " rows",
                         from, w->tile0, w->n_tiles, w->tensor.n_rows);
    return BASE_OK;
}

base_status_t worker_server_answer(void *server, int from, const void *ask, uint8_t *out, size_t *n,
                                   base_err_t *err)
{
    worker_server_t *s = server;
    model_window_t   w;
    uint64_t         done  = 0;
    uint64_t         total = 0;
    worker_ask_unpack(ask, &w, &done, &total);
    base_status_t st = check_ask(s, from, &w, err);
    if (st != BASE_OK) return st;
    const size_t units = model_window_units(&w);
    *n                 = units * sizeof(uint64_t) + model_window_bytes(&w);
    if (out == NULL) return BASE_OK;
    uint8_t *at = out + units * sizeof(uint64_t);
    for (uint64_t t = w.tile0; t < w.tile0 + w.n_tiles; t++)
        for (uint64_t c = w.strip0; c < w.strip0 + w.n_strips; c++) {
            const size_t bytes = model_unit_bytes(&w, t, c);
            uint64_t     hash;
            model_unit_copy(s->source, &w, t, c, at);
            hash = model_bytes_hash64(at, bytes);
            memcpy(out, &hash, sizeof(hash));
            out += sizeof(hash);
            at += bytes;
        }
    model_source_drop(s->source, &w.tensor, w.tile0 * MODEL_UNIT_ROWS,
                      w.n_tiles * MODEL_UNIT_ROWS < w.tensor.n_rows - w.tile0 * MODEL_UNIT_ROWS
                          ? w.n_tiles * MODEL_UNIT_ROWS
                          : w.tensor.n_rows - w.tile0 * MODEL_UNIT_ROWS);
    s->sent += model_window_bytes(&w);
    if (from >= 0 && (uint32_t)from < s->n_ranks) {
        s->done[from]  = done;
        s->total[from] = total;
    }
    show(s);
    return BASE_OK;
}
