/* launch/cmd_tokenize.c: text to token ids, and back. Needs the vocabulary only; no MPI. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/tokenizer.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"

/* Of the word at `at`, for a message: up to 16 bytes. */
static int word_bytes(const char *at)
{
    const size_t n = strcspn(at, " \t\r\n,]");
    return n == 0 ? 1 : n > 16 ? 16 : (int)n;
}

/* Ids parted by spaces, commas, newlines or brackets. *ids is malloc'd. */
static base_status_t parse_ids(char *text, size_t bytes, uint32_t n_vocab, int32_t **ids_p,
                               size_t *n_p, base_err_t *err)
{
    int32_t      *ids = malloc((bytes / 2 + 1) * sizeof(*ids));
    size_t        n   = 0;
    base_status_t st  = BASE_OK;

    if (ids == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for token ids");
    for (char *at = text; st == BASE_OK;) {
        char *end = NULL;
        while (*at != '\0' &&
               (isspace((unsigned char)*at) || *at == ',' || *at == '[' || *at == ']'))
            at++;
        if (at == text + bytes) break;
        errno   = 0;
        long id = strtol(at, &end, 10);
        if (end == at ||
            (*end != '\0' && !isspace((unsigned char)*end) && *end != ',' && *end != ']'))
            st =
                base_fail(err, BASE_ERR_INPUT, "standard input, byte %zu: '%.*s' is not a token id",
                          (size_t)(at - text), word_bytes(at), at);
        else if (errno != 0 || id < 0 || id >= (long)n_vocab)
            st = base_fail(err, BASE_ERR_INPUT,
                           "standard input: token id %ld at index %zu, the vocabulary has 0 to %u",
                           id, n, n_vocab - 1);
        else
            ids[n++] = (int32_t)id;
        at = end;
    }
    if (st != BASE_OK) {
        free(ids);
        return st;
    }
    *ids_p = ids;
    *n_p   = n;
    return BASE_OK;
}

/* The inverse of encode with the same flags: a first BOS is taken off, special names are shown. */
static base_status_t decode(const options_t *o, const coord_tokenizer_t *tokenizer, char *input,
                            size_t input_bytes, base_err_t *err)
{
    const model_vocab_t *vocab = coord_tokenizer_vocab(tokenizer);
    int32_t             *ids   = NULL;
    char                *text  = NULL;
    size_t               n     = 0;
    size_t               bytes = 0;
    size_t               skip  = 0;
    base_status_t        st    = BASE_OK;

    st = parse_ids(input, input_bytes, vocab->n_tokens, &ids, &n, err);
    if (st != BASE_OK) goto out;
    if (n > 0 && ids[0] == vocab->bos && vocab->add_bos && !opt_flag(o, OPT_NO_BOS)) skip = 1;
    st = coord_detokenize(tokenizer, ids + skip, n - skip, !opt_flag(o, OPT_NO_PARSE_SPECIAL),
                          &text, &bytes, err);
    if (st != BASE_OK) goto out;
    if (opt_flag(o, OPT_JSON)) {
        json_t *value =
            json_pack("{s:o, s:I}", "text", out_json_text(text, bytes), "n_tokens", (json_int_t)n);
        st = out_json_write(&value, err);
    } else {
        (void)fwrite(text, 1, bytes, stdout);
        st = out_flush(err);
    }
out:
    free(ids);
    free(text);
    return st;
}

static json_t *pieces_json(const coord_tokenizer_t *tokenizer, const int32_t *ids, size_t n)
{
    size_t  max  = coord_token_piece_max(tokenizer);
    char   *buf  = malloc(max);
    json_t *list = json_array();

    for (size_t i = 0; i < n && list != NULL && buf != NULL; i++) {
        size_t bytes = coord_token_piece(tokenizer, ids[i], true, buf, max);
        (void)json_array_append_new(list, out_json_text(buf, bytes));
    }
    free(buf);
    return list;
}

static base_status_t encode(const options_t *o, const coord_tokenizer_t *tokenizer,
                            const char *text, size_t bytes, base_err_t *err)
{
    unsigned      flags = 0;
    int32_t      *ids   = NULL;
    size_t        n     = 0;
    base_status_t st    = BASE_OK;

    if (!opt_flag(o, OPT_NO_BOS)) flags |= COORD_ADD_BOS;
    if (!opt_flag(o, OPT_NO_PARSE_SPECIAL)) flags |= COORD_PARSE_SPECIAL;
    st = coord_tokenize(tokenizer, text, bytes, flags, &ids, &n, err);
    if (st != BASE_OK) return st;
    if (opt_flag(o, OPT_JSON)) {
        json_t *value = json_pack("{s:o, s:I, s:o}", "tokens", out_json_ids(ids, n), "n_tokens",
                                  (json_int_t)n, "pieces", pieces_json(tokenizer, ids, n));
        st            = out_json_write(&value, err);
    } else {
        for (size_t i = 0; i < n; i++) (void)printf("%s%d", i > 0 ? " " : "", ids[i]);
        (void)putchar('\n');
        st = out_flush(err);
    }
    free(ids);
    return st;
}

int cmd_tokenize(const options_t *o)
{
    model_t           *model     = NULL;
    coord_tokenizer_t *tokenizer = NULL;
    char              *input     = NULL;
    size_t             bytes     = 0;
    base_err_t         err;
    base_status_t      st = BASE_OK;

    if (cli_launcher_rank() != 0) return 0;
    if (opt_string(o, OPT_MODEL) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE,
                       "no model: give a GGUF file or a Hugging Face directory, or -m");
    if (st == BASE_OK) st = model_open(opt_string(o, OPT_MODEL), true, &model, &err);
    if (st == BASE_OK) st = coord_tokenizer_create(&model->vocab, &tokenizer, &err);
    if (st == BASE_OK) st = out_read_all("-", &input, &bytes, &err);
    if (st == BASE_OK && opt_flag(o, OPT_DECODE))
        st = decode(o, tokenizer, input, bytes, &err);
    else if (st == BASE_OK)
        st = encode(o, tokenizer, input, bytes, &err);
    free(input);
    coord_tokenizer_destroy(&tokenizer);
    model_close(&model);
    return st == BASE_OK ? 0 : out_fail(&err);
}
