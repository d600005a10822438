/* model/open.c: opening a model: its file or files, shape and tokenizer tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/gguf_model.h"
#include "model/hf.h"
#include "model/source.h"

/* "-00001-of-00003.gguf": how llama.cpp names the files of a split set. */
enum { SPLIT_SUFFIX_BYTES = 20, SPLIT_MAX = 99999 };

static base_status_t fail_split(const char *path, uint32_t n, base_err_t *err)
{
    return base_fail(err, BASE_ERR_INPUT,
                     "%s: a set of %" PRIu32 " files: give the first, which must "
                     "be named ...-00001-of-%05" PRIu32 ".gguf, as its makers named it",
                     path, n, n);
}

/* Paths of a set of n files from that of its first; *out: n strings, to be freed. */
static base_status_t split_paths(const char *path, uint32_t n, char ***out, base_err_t *err)
{
    char          suffix[SPLIT_SUFFIX_BYTES + 16];
    size_t        bytes = strlen(path);
    void         *p     = NULL;
    base_status_t st    = BASE_OK;

    (void)snprintf(suffix, sizeof(suffix), "-%05d-of-%05" PRIu32 ".gguf", 1, n);
    if (bytes < SPLIT_SUFFIX_BYTES || strcmp(path + bytes - SPLIT_SUFFIX_BYTES, suffix) != 0)
        return fail_split(path, n, err);
    st = base_alloc(&p, n, sizeof(char *), path, err);
    if (st != BASE_OK) return st;
    *out = p; /* the caller frees what is there */
    for (uint32_t i = 0; i < n; i++) {
        st = base_alloc(&p, bytes + 1, 1, path, err);
        if (st != BASE_OK) return st;
        (*out)[i] = p;
        memcpy(p, path, bytes - SPLIT_SUFFIX_BYTES);
        (void)snprintf((*out)[i] + bytes - SPLIT_SUFFIX_BYTES, SPLIT_SUFFIX_BYTES + 1,
                       "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (i + 1) % (SPLIT_MAX + 1),
                       n % (SPLIT_MAX + 1));
    }
    return BASE_OK;
}

/* Number of files of the set that a file says it belongs to, 1 if it does not say. */
static base_status_t split_count(const model_gguf_t *g, uint32_t *n, base_err_t *err)
{
    uint32_t      no = 0;
    base_status_t st = model_gguf_u32(g, "split.count", false, 0, LIMIT_MODEL_FILES, n, err);
    if (st != BASE_OK) return st;
    if (*n == 0) *n = 1;
    st = model_gguf_u32(g, "split.no", false, 0, LIMIT_MODEL_FILES, &no, err);
    if (st != BASE_OK) return st;
    if (no != 0) return fail_split(g->path, *n, err);
    return BASE_OK;
}

/* Does file number i, counted from 0, belong to a set of n? */
static base_status_t check_part(const model_gguf_t *g, uint32_t i, uint32_t n, base_err_t *err)
{
    uint32_t      no    = 0;
    uint32_t      count = n;
    base_status_t st    = model_gguf_u32(g, "split.no", true, 0, LIMIT_MODEL_FILES, &no, err);
    if (st == BASE_OK)
        st = model_gguf_u32(g, "split.count", false, 1, LIMIT_MODEL_FILES, &count, err);
    if (st != BASE_OK) return st;
    if (no != i)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: says that it is number %" PRIu32
                         " of its set (split.no, counted from 0), want %" PRIu32,
                         g->path, no, i);
    if (count != n)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: split.count is %" PRIu32 ", the first file of the set says %" PRIu32
                         ": files of two sets?",
                         g->path, count, n);
    return BASE_OK;
}

/* Are all tensors there that the first file of the set promises? */
static base_status_t check_total(const model_gguf_t *g, base_err_t *err)
{
    uint32_t      total = g->n_tensors;
    base_status_t st =
        model_gguf_u32(g, "split.tensors.count", false, 0, LIMIT_TENSORS, &total, err);
    if (st != BASE_OK || total == g->n_tensors) return st;
    return base_fail(err, BASE_ERR_INPUT,
                     "%s: split.tensors.count is %" PRIu32 ", the files of the set hold %" PRIu32,
                     g->path, total, g->n_tensors);
}

/* Map all files of the set instead of the first alone, and put their tensors into one directory. */
static base_status_t open_split(const char *path, uint32_t n, model_source_t **source,
                                model_gguf_t *g, base_err_t *err)
{
    char        **paths = NULL;
    model_gguf_t  other = {0};
    base_status_t st    = split_paths(path, n, &paths, err);
    if (st != BASE_OK) goto out;
    model_gguf_free(g);
    model_source_close(source);
    st = model_source_open((const char *const *)paths, n, source, err);
    if (st != BASE_OK) goto out;
    st = model_gguf_parse(*source, 0, g, err);
    for (uint32_t i = 1; st == BASE_OK && i < n; i++) {
        st = model_gguf_parse(*source, i, &other, err);
        if (st == BASE_OK) st = check_part(&other, i, n, err);
        if (st == BASE_OK) st = model_gguf_merge(g, &other, err);
        model_gguf_free(&other);
    }
    if (st == BASE_OK) st = check_total(g, err);
out:
    for (uint32_t i = 0; paths != NULL && i < n; i++) free(paths[i]);
    free(paths);
    return st;
}

/* Shape and vocabulary out of an opened directory. */
static base_status_t interpret(model_t *m, model_gguf_t *g, const model_open_options_t *options,
                               base_err_t *err)
{
    base_status_t st = model_gguf_desc(g, m->source, options, &m->desc, err);
    if (st != BASE_OK) return st;
    st = model_gguf_vocab(g, &m->vocab, err);
    if (st != BASE_OK) return st;
    if (m->desc.n_vocab == 0) m->desc.n_vocab = m->vocab.n_tokens; /* vocab_only */
    if (m->vocab.n_tokens > m->desc.n_vocab)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: the tokenizer has %" PRIu32 " tokens, the model %" PRIu32, g->path,
                         m->vocab.n_tokens, m->desc.n_vocab);
    return BASE_OK;
}

base_status_t model_open_source(model_source_t **source, bool vocab_only, model_t **out,
                                base_err_t *err)
{
    const model_open_options_t options = {.vocab_only = vocab_only};
    return model_open_source_with(source, &options, out, err);
}

base_status_t model_open_source_with(model_source_t **source, const model_open_options_t *options,
                                     model_t **out, base_err_t *err)
{
    model_gguf_t  g  = {0};
    model_t      *m  = NULL;
    void         *p  = NULL;
    uint32_t      n  = 1;
    base_status_t st = base_alloc(&p, 1, sizeof(*m), "model", err);
    if (st != BASE_OK) goto out;
    m         = p;
    m->source = *source;
    *source   = NULL;
    st        = model_gguf_parse(m->source, 0, &g, err);
    if (st != BASE_OK) goto out;
    st = split_count(&g, &n, err);
    if (st != BASE_OK) goto out;
    if (n > 1 && !options->vocab_only) {
        char *path = strdup(g.path); /* the source that holds it is closed */
        st         = path == NULL ? base_fail(err, BASE_ERR_MEMORY, "%s: no memory", g.path)
                                  : open_split(path, n, &m->source, &g, err);
        free(path);
        if (st != BASE_OK) goto out;
    }
    st = interpret(m, &g, options, err);
    if (st != BASE_OK) goto out;
    *out = m;
    m    = NULL;
out:
    model_gguf_free(&g);
    model_source_close(source);
    model_close(&m);
    return st;
}

base_status_t model_open(const char *path, bool vocab_only, model_t **out, base_err_t *err)
{
    const model_open_options_t options = {.vocab_only = vocab_only};
    return model_open_with(path, &options, out, err);
}

base_status_t model_open_with(const char *path, const model_open_options_t *options, model_t **out,
                              base_err_t *err)
{
    model_source_t *source = NULL;

    base_assert(path != NULL && options != NULL && out != NULL);
    if (model_hf_is_directory(path)) return model_hf_open(path, options, out, err);
    if (model_source_absent(path))
        return base_fail(err, BASE_ERR_IO,
                         "%s: no such file or directory; a model is a path, nothing is downloaded",
                         path);
    base_status_t st = model_source_open(&path, 1, &source, err);
    if (st != BASE_OK) return st;
    return model_open_source_with(&source, options, out, err);
}

void model_close(model_t **model)
{
    if (model == NULL || *model == NULL) return;
    model_t *m = *model;
    model_vocab_free(&m->vocab);
    model_desc_free(&m->desc);
    model_source_close(&m->source);
    free(m);
    *model = NULL;
}
