/* quantize/rows.c: rows of all tensors, shared out among threads. */
#include "quantize/rows.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"

enum { JOB_BYTES = 4 << 20 };

static void add(quant_item_t *items, uint32_t *n, const char *name, model_tensor_t *tensor,
                quant_kind_t kind)
{
    quant_item_t *item = &items[(*n)++];
    (void)snprintf(item->name, sizeof(item->name), "%s", name);
    item->tensor = tensor;
    item->kind   = kind;
    item->which  = MODEL_LAYER_TENSOR_COUNT;
}

base_status_t quant_items(model_desc_t *desc, quant_item_t **out, uint32_t *n, base_err_t *err)
{
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, 3 + (size_t)desc->n_layers * MODEL_LAYER_TENSOR_COUNT,
                                  sizeof(**out), "list of tensors", err);
    if (st != BASE_OK) return st;
    *out = p;
    *n   = 0;
    add(*out, n, "token_embd.weight", &desc->embed, QUANT_TABLE);
    add(*out, n, "output_norm.weight", &desc->out_norm, QUANT_VECTOR);
    if (!desc->tied) add(*out, n, "output.weight", &desc->head, QUANT_TABLE);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            const model_layer_tensor_t which  = (model_layer_tensor_t)w;
            model_tensor_t            *tensor = &desc->layers[i].t[w];
            const bool                 bias   = model_layer_tensor_is_bias(which);
            const bool                 vector = bias || model_layer_tensor_is_norm(which);
            char                       base[64];
            char                       name[80];
            if (tensor->type == MODEL_NONE) continue;
            model_layer_tensor_name(i, which, base, sizeof(base));
            (void)snprintf(name, sizeof(name), "%s%s", base, bias ? "" : ".weight");
            add(*out, n, name, tensor, vector ? QUANT_VECTOR : QUANT_LINEAR);
            (*out)[*n - 1].which = which;
        }
    }
    return BASE_OK;
}

/* ---- threads */

typedef struct {
    const quant_item_t *items;
    uint32_t            n;
    bool                whole;
    quant_rows_t       *work;
    void               *context;
    const atomic_int   *stop;
    const char         *label;
    uint64_t            total; /* bytes of all items */
    pthread_mutex_t     lock;
    uint32_t            item; /* the next job */
    uint64_t            row;
    uint64_t            done; /* bytes of the jobs taken */
    base_status_t       status;
    base_err_t          err;
} team_t;

/* The next rows; false when there are none, a thread failed, or somebody said stop. */
static bool take(team_t *team, uint32_t *item, uint64_t *row, uint64_t *n_rows)
{
    bool any = false;
    (void)pthread_mutex_lock(&team->lock);
    if (team->status == BASE_OK && team->stop != NULL && atomic_load(team->stop) != 0)
        team->status = base_fail(&team->err, BASE_ERR_INTERRUPTED, "interrupted by signal %d",
                                 atomic_load(team->stop));
    if (team->status == BASE_OK && team->item < team->n) {
        const model_tensor_t *t = team->items[team->item].tensor;
        uint64_t              n = JOB_BYTES / sizeof(float) / t->n_cols;
        if (n > QUANT_JOB_ROWS) n = QUANT_JOB_ROWS;
        n = n < 4 ? 4 : n / 4 * 4; /* some types keep 4 rows together */
        if (team->whole || n > t->n_rows - team->row) n = t->n_rows - team->row;
        *item   = team->item;
        *row    = team->row;
        *n_rows = n;
        any     = true;
        team->row += n;
        team->done += t->bytes / t->n_rows * n;
        if (team->row == t->n_rows) {
            team->row = 0;
            team->item++;
        }
        base_progress(team->label, team->done, team->total);
    }
    (void)pthread_mutex_unlock(&team->lock);
    return any;
}

static void *run(void *argument)
{
    team_t         *team    = argument;
    quant_scratch_t scratch = {NULL, NULL, NULL};
    uint64_t        cols    = 1;
    void           *p       = NULL;
    uint32_t        item    = 0;
    uint64_t        row     = 0;
    uint64_t        n       = 0;
    base_err_t      err     = {BASE_OK, ""};

    for (uint32_t i = 0; i < team->n; i++)
        if (team->items[i].tensor->n_cols > cols) cols = team->items[i].tensor->n_cols;
    base_status_t st = base_alloc(&p, cols, sizeof(float), "a row", &err);
    scratch.row      = p;
    if (st == BASE_OK) st = base_alloc(&p, cols, 1, "a row", &err);
    if (st == BASE_OK) scratch.trits = p;
    if (st == BASE_OK)
        st = base_alloc(&p, 1, JOB_BYTES + 4 * cols * sizeof(float), "rows of a tensor", &err);
    if (st == BASE_OK) scratch.bytes = p;
    while (st == BASE_OK && take(team, &item, &row, &n))
        st = team->work(team->context, item, row, n, &scratch, &err);
    if (st != BASE_OK) {
        (void)pthread_mutex_lock(&team->lock);
        if (team->status == BASE_OK) {
            team->status = st;
            team->err    = err;
        }
        (void)pthread_mutex_unlock(&team->lock);
    }
    free(scratch.row);
    free(scratch.trits);
    free(scratch.bytes);
    return NULL;
}

base_status_t quant_rows_each(const quant_item_t *items, uint32_t n, bool whole, quant_rows_t *work,
                              void *context, const atomic_int *stop, const char *label,
                              base_err_t *err)
{
    team_t    team = {.items   = items,
                      .n       = n,
                      .whole   = whole,
                      .work    = work,
                      .context = context,
                      .stop    = stop,
                      .label   = label,
                      .status  = BASE_OK};
    cpu_set_t set;
    pthread_t threads[LIMIT_THREADS];
    int       want    = 1;
    int       started = 0;

    for (uint32_t i = 0; i < n; i++) team.total += items[i].tensor->bytes;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) want = CPU_COUNT(&set);
    if (want > LIMIT_THREADS) want = LIMIT_THREADS;
    (void)pthread_mutex_init(&team.lock, NULL);
    while (started + 1 < want && pthread_create(&threads[started], NULL, run, &team) == 0)
        started++;
    (void)run(&team); /* fewer threads than wished is no failure */
    for (int i = 0; i < started; i++) (void)pthread_join(threads[i], NULL);
    (void)pthread_mutex_destroy(&team.lock);
    if (team.status != BASE_OK && err != NULL) *err = team.err;
    return team.status;
}
