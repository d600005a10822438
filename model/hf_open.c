/* model/hf_open.c: opening a Hugging Face directory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "model/hf.h"
#include "model/source.h"

/* Paths of the weights, each to be freed. */
typedef struct {
    char   **paths;
    uint32_t n;
} files_t;

bool model_hf_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

base_status_t model_hf_path(const char *dir, const char *name, char out[LIMIT_PATH_BYTES],
                            base_err_t *err)
{
    const int n = snprintf(out, LIMIT_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= LIMIT_PATH_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "%.80s...: the path is too long, limit %d", dir,
                         LIMIT_PATH_BYTES);
    return BASE_OK;
}

static void files_free(files_t *f)
{
    for (uint32_t i = 0; i < f->n; i++) free(f->paths[i]);
    free(f->paths);
    *f = (files_t){0};
}

/* `from`: the file that names this one. */
static base_status_t files_add(files_t *f, const char *dir, const char *from, const char *name,
                               base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    base_status_t st = model_hf_path(dir, name, path, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < f->n; i++)
        if (strcmp(f->paths[i], path) == 0) return BASE_OK;
    if (f->n == LIMIT_MODEL_FILES)
        return base_fail(err, BASE_ERR_LIMIT, "%s: 'weight_map' names over %d files", from,
                         LIMIT_MODEL_FILES);
    if (f->paths == NULL) {
        st = base_alloc((void **)&f->paths, LIMIT_MODEL_FILES, sizeof(char *), "paths", err);
        if (st != BASE_OK) return st;
    }
    f->paths[f->n] = strdup(path);
    if (f->paths[f->n] == NULL) return base_fail(err, BASE_ERR_MEMORY, "%s: no memory", path);
    f->n++;
    return BASE_OK;
}

/* A name of a file in the directory itself, nothing that leads out of it. */
static bool is_plain(const json_t *name)
{
    static const char end[] = ".safetensors";
    const size_t      n     = json_string_length(name);
    if (!json_is_string(name) || n < sizeof(end) || n > 255) return false;
    const char *text = json_string_value(name);
    return strlen(text) == n && strchr(text, '/') == NULL &&
           strcmp(text + n - (sizeof(end) - 1), end) == 0;
}

static base_status_t read_index(const char *dir, const char *path, files_t *f, base_err_t *err)
{
    json_t       *root = NULL;
    const char   *key  = NULL;
    json_t       *name = NULL;
    base_status_t st   = model_json_load(path, true, &root, err);
    if (st != BASE_OK) return st;
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        st = base_fail(err, BASE_ERR_INPUT, "%s: 'weight_map' is no object with tensors", path);
        goto out;
    }
    if (json_object_size(map) > LIMIT_TENSORS) {
        st = base_fail(err, BASE_ERR_LIMIT, "%s: 'weight_map' of over %d tensors", path,
                       LIMIT_TENSORS);
        goto out;
    }
    json_object_foreach(map, key, name)
    {
        const uint32_t before = f->n;
        if (!is_plain(name))
            st = base_fail(err, BASE_ERR_INPUT,
                           "%s: 'weight_map' names for tensor %.80s no file of this directory",
                           path, key);
        if (st == BASE_OK) st = files_add(f, dir, path, json_string_value(name), err);
        if (st == BASE_OK && f->n > before && model_source_absent(f->paths[before]))
            st = base_fail(err, BASE_ERR_INPUT,
                           "%s: 'weight_map' names for tensor %.80s the file %.120s, which is not "
                           "there: an incomplete download?",
                           path, key, json_string_value(name));
        if (st != BASE_OK) break;
    }
out:
    json_decref(root);
    return st;
}

static base_status_t find_files(const char *dir, files_t *f, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    base_status_t st = model_hf_path(dir, "model.safetensors", path, err);
    if (st != BASE_OK) return st;
    if (!model_source_absent(path)) return files_add(f, dir, dir, "model.safetensors", err);
    st = model_hf_path(dir, "model.safetensors.index.json", path, err);
    if (st != BASE_OK) return st;
    if (!model_source_absent(path)) return read_index(dir, path, f, err);
    return base_fail(err, BASE_ERR_INPUT,
                     "%s: holds no model.safetensors and no model.safetensors.index.json (older "
                     "weights, pytorch_model.bin, are not read)",
                     dir);
}

static base_status_t open_weights(const char *dir, const hf_config_t *config, model_t *m,
                                  base_err_t *err)
{
    files_t       files = {0};
    model_st_t    st    = {0};
    base_status_t ok    = find_files(dir, &files, err);
    if (ok != BASE_OK) goto out;
    ok = model_source_open((const char *const *)files.paths, files.n, &m->source, err);
    if (ok != BASE_OK) goto out;
    ok = model_st_parse(m->source, &st, err);
    if (ok != BASE_OK) goto out;
    ok = model_hf_desc(config, &st, m->source, dir, &m->desc, err);
out:
    model_st_free(&st);
    files_free(&files);
    return ok;
}

/* Without weights: a source there must be, so it is the tokenizer's file. */
static base_status_t open_vocab(const char *dir, model_t *m, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    const char   *only = path;
    base_status_t st   = model_hf_path(dir, "tokenizer.json", path, err);
    return st != BASE_OK ? st : model_source_open(&only, 1, &m->source, err);
}

base_status_t model_hf_open(const char *dir, const model_open_options_t *options, model_t **out,
                            base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    json_t       *root   = NULL;
    model_t      *m      = NULL;
    hf_config_t   config = {0};
    base_status_t st     = model_hf_path(dir, "config.json", path, err);
    if (st != BASE_OK) return st;
    if (model_source_absent(path) && !options->vocab_only)
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s: is a directory without config.json; give a GGUF file or a Hugging "
                         "Face directory",
                         dir);
    st = base_alloc((void **)&m, 1, sizeof(*m), "model", err);
    if (st != BASE_OK) goto out;
    st = model_json_load(path, !options->vocab_only, &root, err);
    if (st != BASE_OK) goto out;
    if (options->vocab_only) {
        st = open_vocab(dir, m, err);
    } else {
        st = model_hf_config(root, path, &config, err);
        if (st == BASE_OK) st = open_weights(dir, &config, m, err);
    }
    if (st == BASE_OK) st = model_hf_vocab(dir, root, &m->vocab, err);
    if (st != BASE_OK) goto out;
    if (options->vocab_only) m->desc.n_vocab = m->vocab.n_tokens;
    if (m->vocab.n_tokens > m->desc.n_vocab) {
        st = base_fail(err, BASE_ERR_INPUT,
                       "%s/tokenizer.json: %" PRIu32
                       " tokens (the highest id plus 1), 'vocab_size' of config.json is %" PRIu32,
                       dir, m->vocab.n_tokens, m->desc.n_vocab);
        goto out;
    }
    *out = m;
    m    = NULL;
out:
    json_decref(root);
    model_close(&m);
    return st;
}
