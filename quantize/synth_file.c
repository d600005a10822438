/* quantize/synth_file.c: synthetic models as GGUF files, written by several threads. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "quantize/convert.h"
#include "quantize/synth.h"

enum { JOB_BYTES = 4 << 20, WORD_BYTES = 16, BYTE_TOKENS = 256, FIRST_BYTE = 3, FIRST_WORD = 259 };

/* ---- keys
 * ---------------------------------------------------------------------------------------- */

typedef char word_t[WORD_BYTES];

/* A SentencePiece vocabulary that every engine takes: <unk>, <s>, </s>, the bytes, filler words.
 * *texts: the words, which v->tokens point at. The caller frees both, whatever the status. */
static base_status_t make_vocab(uint32_t n, model_vocab_t *v, word_t **texts, base_err_t *err)
{
    void         *p  = NULL;
    base_status_t st = BASE_OK;

    base_assert(n > FIRST_WORD);
    *v = (model_vocab_t){.kind             = MODEL_VOCAB_SPM,
                         .n_tokens         = n,
                         .bos              = 1,
                         .eos              = 2,
                         .eot              = -1,
                         .unk              = 0,
                         .pad              = -1,
                         .add_bos          = true,
                         .add_space_prefix = true};
    st = base_alloc(&p, n, sizeof(**texts), "vocabulary", err);
    if (st != BASE_OK) return st;
    *texts = p;
    st     = base_alloc(&p, n, sizeof(*v->tokens), "vocabulary", err);
    if (st != BASE_OK) return st;
    v->tokens = p;
    st        = base_alloc(&p, n, sizeof(*v->scores), "vocabulary", err);
    if (st != BASE_OK) return st;
    v->scores = p;
    st        = base_alloc(&p, n, sizeof(*v->types), "vocabulary", err);
    if (st != BASE_OK) return st;
    v->types = p;
    for (uint32_t i = 0; i < n; i++) {
        static const char *const special[] = {"<unk>", "<s>", "</s>"};
        char                    *text      = (*texts)[i];
        if (i < FIRST_BYTE)
            (void)snprintf(text, WORD_BYTES, "%s", special[i]);
        else if (i < FIRST_WORD)
            (void)snprintf(text, WORD_BYTES, "<0x%02X>", (unsigned)(i - FIRST_BYTE));
        else /* U+2581, the sign for a space */
            (void)snprintf(text, WORD_BYTES, "\xe2\x96\x81w%04" PRIu32, i - FIRST_WORD);
        v->tokens[i] = (model_str_t){text, (uint32_t)strlen(text)};
        v->scores[i] = i < FIRST_WORD ? 0 : -(float)(i - FIRST_WORD);
        v->types[i]  = i == 0           ? MODEL_TOKEN_UNKNOWN
                       : i < FIRST_BYTE ? MODEL_TOKEN_CONTROL
                       : i < FIRST_WORD ? MODEL_TOKEN_BYTE
                                        : MODEL_TOKEN_NORMAL;
    }
    return BASE_OK;
}

static base_status_t write_keys(model_gguf_writer_t *w, const model_desc_t *d, model_type_t type,
                                base_err_t *err)
{
    model_t       model      = {.desc = *d}; /* borrows the layers */
    word_t       *texts      = NULL;
    uint32_t      n_divisors = 0;
    float         divisors[MODEL_ROPE_MAX];
    base_status_t st = make_vocab(d->n_vocab, &model.vocab, &texts, err);
    if (st != BASE_OK) goto out;
    st = quant_convert_keys(w, &model, d->arch, divisors, &n_divisors, err);
    if (st != BASE_OK) goto out;
    base_assert(n_divisors == 0); /* its RoPE is not scaled */
    model_gguf_write_u32(w, "general.file_type", quant_file_type(type));
out:
    free(model.vocab.tokens);
    free(model.vocab.scores);
    free(model.vocab.types);
    free(texts);
    return st;
}

static void declare_tensors(model_gguf_writer_t *w, const model_desc_t *d)
{
    model_gguf_write_tensor(w, "token_embd.weight", d->embed.type, d->embed.n_rows, d->width);
    model_gguf_write_tensor(w, "output_norm.weight", MODEL_F32, 0, d->width);
    for (uint32_t i = 0; i < d->n_layers; i++) {
        for (int t = 0; t < QUANT_LAYER_TENSORS; t++) {
            const model_tensor_t *tensor = &d->layers[i].t[t];
            model_layer_tensor_t  which  = (model_layer_tensor_t)t;
            char                  base[64];
            char                  name[80];
            model_layer_tensor_name(i, which, base, sizeof(base));
            (void)snprintf(name, sizeof(name), "%s.weight", base);
            uint32_t number = model_gguf_write_tensor(
                w, name, tensor->type, model_layer_tensor_is_norm(which) ? 0 : tensor->n_rows,
                tensor->n_cols);
            base_assert(number == tensor->offset); /* the tensor's number: see synth.h */
        }
    }
}

/* ---- threads
 * ------------------------------------------------------------------------------------- */

typedef struct {
    model_gguf_writer_t *writer;
    const model_desc_t  *desc;
    uint64_t             seed;
    uint64_t             total; /* bytes of tensor data */
    pthread_mutex_t      lock;
    uint32_t             tensor; /* next job: rows from `row` of this tensor */
    uint64_t             row;
    const atomic_int    *stop;
    base_status_t        status; /* the first failure stops all */
    base_err_t           err;
} team_t;

static const model_tensor_t *tensor_at(const model_desc_t *d, uint32_t number)
{
    if (number == 0) return &d->embed;
    if (number == 1) return &d->out_norm;
    uint32_t layer = (number - 2) / QUANT_LAYER_TENSORS;
    if (layer >= d->n_layers) return NULL;
    return &d->layers[layer].t[(number - 2) % QUANT_LAYER_TENSORS];
}

/* Take the next rows of a tensor, about JOB_BYTES of them; false when there are none, a thread
 * failed, or somebody said stop. */
static bool take_job(team_t *team, uint32_t *tensor, uint64_t *row, uint64_t *n_rows)
{
    (void)pthread_mutex_lock(&team->lock);
    const model_tensor_t *t = tensor_at(team->desc, team->tensor);
    if (team->status == BASE_OK && team->stop != NULL && atomic_load(team->stop) != 0)
        team->status = base_fail(&team->err, BASE_ERR_INTERRUPTED, "stopped by signal %d",
                                 atomic_load(team->stop));
    if (team->status != BASE_OK) t = NULL;
    if (t != NULL) {
        uint64_t n = JOB_BYTES / model_row_bytes(t->type, t->n_cols);
        if (n == 0) n = 1;
        if (n > t->n_rows - team->row) n = t->n_rows - team->row;
        *tensor = team->tensor;
        *row    = team->row;
        *n_rows = n;
        team->row += n;
        if (team->row == t->n_rows) {
            team->row = 0;
            team->tensor++;
        }
    }
    (void)pthread_mutex_unlock(&team->lock);
    return t != NULL;
}

static void report(team_t *team, base_status_t st, const base_err_t *err)
{
    (void)pthread_mutex_lock(&team->lock);
    if (team->status == BASE_OK) {
        team->status = st;
        team->err    = *err;
    }
    (void)pthread_mutex_unlock(&team->lock);
}

static void *work(void *argument)
{
    team_t      *team   = argument;
    base_err_t   err    = {BASE_OK, ""};
    void        *buffer = NULL;
    uint32_t     number = 0;
    uint64_t     row    = 0;
    uint64_t     n      = 0;
    const size_t row_max =
        (size_t)LIMIT_FFN * 4; /* F32; a job of one row may be larger than a job */
    base_status_t st =
        base_alloc(&buffer, 1, row_max > JOB_BYTES ? row_max : JOB_BYTES, "synth buffer", &err);
    while (st == BASE_OK && take_job(team, &number, &row, &n)) {
        const model_tensor_t *t      = tensor_at(team->desc, number);
        const uint64_t        bytes  = model_row_bytes(t->type, t->n_cols);
        const uint64_t        blocks = t->n_cols / model_type_info(t->type)->block_elems;
        for (uint64_t i = 0; i < n; i++)
            quant_synth_row(team->seed, t, row + i, 0, blocks, (uint8_t *)buffer + i * bytes);
        st = model_gguf_write_rows(team->writer, number, row, n, buffer, &err);
        base_progress("writing", model_gguf_writer_done(team->writer), team->total);
    }
    if (st != BASE_OK) report(team, st, &err);
    free(buffer);
    return NULL;
}

static uint32_t usable_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    return (uint32_t)CPU_COUNT(&set);
}

/* All rows, by this thread and n_threads - 1 more. */
static base_status_t run_team(team_t *team, uint32_t n_threads, base_err_t *err)
{
    pthread_t threads[LIMIT_THREADS];
    uint32_t  n = 0;
    if (n_threads > LIMIT_THREADS) n_threads = LIMIT_THREADS;
    (void)pthread_mutex_init(&team->lock, NULL);
    while (n + 1 < n_threads && pthread_create(&threads[n], NULL, work, team) == 0) n++;
    (void)work(team); /* fewer threads than wished is no failure */
    for (uint32_t i = 0; i < n; i++) (void)pthread_join(threads[i], NULL);
    (void)pthread_mutex_destroy(&team->lock);
    if (team->status != BASE_OK && err != NULL) *err = team->err;
    return team->status;
}

base_status_t quant_synth_write(const char *path, const quant_shape_t *shape, model_type_t type,
                                model_type_t embed, uint64_t seed, uint32_t n_threads,
                                const atomic_int *stop, base_err_t *err)
{
    model_desc_t         desc   = {.layers = NULL};
    model_gguf_writer_t *writer = NULL;
    base_status_t        st     = quant_synth_desc(shape, type, embed, &desc, err);
    if (st != BASE_OK) goto out;
    st = model_gguf_writer_open(path, &writer, err);
    if (st != BASE_OK) goto out;
    st = write_keys(writer, &desc, type, err);
    if (st != BASE_OK) goto out;
    declare_tensors(writer, &desc);
    st = model_gguf_writer_begin(writer, err);
    if (st != BASE_OK) goto out;
    team_t team = {.writer = writer,
                   .desc   = &desc,
                   .seed   = seed,
                   .stop   = stop,
                   .total  = model_gguf_writer_total(writer),
                   .status = BASE_OK};
    st          = run_team(&team, n_threads == 0 ? usable_cpus() : n_threads, err);
    if (st != BASE_OK) goto out;
    st = model_gguf_writer_finish(writer, err);
out:
    model_gguf_writer_close(&writer);
    model_desc_free(&desc);
    return st;
}
