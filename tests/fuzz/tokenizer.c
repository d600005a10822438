/* Fuzzing tokenizer.json and the files beside it: any texts give a status, or a vocabulary that a
 * tokenizer can be made of and text goes through.
 *
 * Parts that end in NUL, each a file: tokenizer.json, tokenizer_config.json, config.json,
 * generation_config.json, chat_template.jinja; then the text. Built and run as fuzz.h says. */
#include "coordinator/tokenizer.h"
#include "model/gguf_model.h"
#include "model/hf.h"
#include "tests/fuzz/fuzz.h"

enum { TOKENIZER, MORE, CONFIG, GENERATION, JINJA, FILES, TEXT = FILES, PARTS };

static const char *const files[FILES] = {"tokenizer.json", "tokenizer_config.json", "config.json",
                                         "generation_config.json", "chat_template.jinja"};

static void leave(void)
{
    for (int i = 0; i < FILES; i++) fuzz_write(files[i], NULL, 0);
    fuzz_folder_remove();
}

/* Strings lie where they may be read, ids are tokens or none. */
static void check(const model_vocab_t *v)
{
    const int32_t ids[] = {v->bos, v->eos, v->eot, v->unk, v->pad};
    uint32_t      sum   = v->kind == MODEL_VOCAB_SPM && v->scores == NULL;
    fuzz_expect(sum == 0, "SPM without scores", NULL);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        fuzz_expect(ids[i] >= -1 && ids[i] < (int32_t)v->n_tokens, "an id of no token", NULL);
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        for (uint32_t k = 0; k < v->tokens[i].bytes; k++) sum += (uint8_t)v->tokens[i].text[k];
        fuzz_expect(v->types[i] >= MODEL_TOKEN_NORMAL && v->types[i] <= MODEL_TOKEN_BYTE,
                    "a token without a type", NULL);
    }
    for (uint32_t i = 0; i < v->n_merges; i++)
        for (uint32_t k = 0; k < v->merges[i].bytes; k++) sum += (uint8_t)v->merges[i].text[k];
    for (uint32_t k = 0; k < v->chat_template.bytes; k++) sum += (uint8_t)v->chat_template.text[k];
    if (sum == 1) (void)fputs("", stderr); /* the sum is used */
}

static void use(const model_vocab_t *v, const char *text, size_t bytes)
{
    coord_tokenizer_t *t    = NULL;
    int32_t           *ids  = NULL;
    char              *back = NULL;
    size_t             n = 0, n_back = 0;
    base_err_t         err = {0};
    check(v);
    base_status_t st = coord_tokenizer_create(v, &t, &err);
    fuzz_expect(st == BASE_OK, "a vocabulary of a file makes no tokenizer", &err);
    st = coord_tokenize(t, text, bytes, COORD_ADD_BOS | COORD_ADD_EOS | COORD_PARSE_SPECIAL, &ids,
                        &n, &err);
    if (st == BASE_OK) {
        for (size_t i = 0; i < n; i++)
            fuzz_expect(ids[i] >= 0 && (uint32_t)ids[i] < v->n_tokens, "an id of no token", NULL);
        fuzz_expect(coord_detokenize(t, ids, n, true, &back, &n_back, &err) == BASE_OK,
                    "ids that are no text", &err);
    } else {
        fuzz_expect(st == BASE_ERR_INPUT, "tokenize", &err);
    }
    free(back);
    free(ids);
    coord_tokenizer_destroy(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *parts[PARTS] = {NULL};
    size_t         bytes[PARTS] = {0};
    json_t        *config       = NULL;
    model_vocab_t  vocab        = {0};
    base_err_t     err          = {0};
    size_t         at           = 0;
    fuzz_quiet();
    fuzz_folder_make(leave);
    for (int i = 0; i < PARTS; i++) {
        parts[i] = data + at;
        bytes[i] = i == TEXT ? size - at : strnlen((const char *)data + at, size - at);
        at += bytes[i];
        if (i != TEXT && at < size) at++;
        if (i != TEXT) fuzz_write(files[i], parts[i], bytes[i]);
    }
    base_status_t st = model_json_load(fuzz_path(files[CONFIG]), false, &config, &err);
    if (st == BASE_OK) st = model_hf_vocab(fuzz_folder, config, &vocab, &err);
    if (st == BASE_OK && vocab.kind != MODEL_VOCAB_NONE) {
        char *exact = fuzz_copy(parts[TEXT], bytes[TEXT]);
        use(&vocab, exact, bytes[TEXT]);
        free(exact);
    } else if (st != BASE_OK) {
        fuzz_expect(base_status_exit(st) == 3 && strstr(err.text, fuzz_folder) != NULL, "open",
                    &err);
    }
    model_vocab_free(&vocab);
    json_decref(config);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    static const char *const pieces[] = {
        "\"a b\"",
        "[\"a\",\"b\"]",
        "[\"a b\",\" \"]",
        "\" b\"",
        "\"a \"",
        "\"<0x41>\"",
        "\"<unk>\"",
        "\"ab\"",
        "\"\\u0120\"",
        "\"\\u2581a\"",
        "\"a\\u0000b\"",
        "3",
        "7",
        "300",
        "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\"}",
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}"
        ","
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}",
        "{\"type\":\"Split\",\"pattern\":"
        "{\"Regex\":\"\\\\s?\\\\p{L}+\"},\"behavior\":\"Isolated\"}",
        "{\"type\":\"NFC\"}",
        "[{\"SpecialToken\":{\"id\":\"z\"}},{\"Sequence\":0},{\"SpecialToken\":{\"id\":\"a\"}}]",
        "{\"id\":2,\"content\":\"\",\"special\":true}",
        "{\"id\":5,\"content\":\"a b\"}",
        "[{\"name\":\"default\",\"template\":\"T\"}]",
        "{\"content\":\"ab\"}"};
    if (fuzz_random(state) % 6 == 0)
        fuzz_mutate_bytes(b, state);
    else
        fuzz_mutate_json(b, pieces, sizeof(pieces) / sizeof(pieces[0]), state);
}

#define POST                                                                                       \
    "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"          \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"            \
    "{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"</s>\"}}]}]},"
#define ADDED                                                                                      \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,"              \
    "\"content\":\"<s>\",\"special\":true},{\"id\":7,\"content\":\"word\",\"special\":false}],"
#define SIDES                                                                                      \
    "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"ab\"},\"add_bos_token\":true,"            \
    "\"chat_template\":[{\"name\":\"default\",\"template\":\"{{ x }}\"}],\"tokenizer_class\":"     \
    "\"LlamaTokenizer\"}\0{\"eos_token_id\":[2,3]}\0{\"bos_token_id\":1,\"eos_token_id\":[4,3]}\0"

int main(int argc, char **argv)
{
    static const char bpe[] =
        ADDED "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
              "\"add_prefix_space\":false,\"use_regex\":true}," POST "\"model\":{\"type\":\"BPE\","
              "\"vocab\":{\"a\":2,\"b\":3,\"ab\":4,\"\\u0120\":5,\"\\u0120ab\":6},"
              "\"merges\":[\"a b\",[\"\\u0120\",\"ab\"]]}}\0" SIDES "\0<s>ab abword \xff";
    static const char spm[] = ADDED
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
        "\"prepend\":\"\\u2581\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
        "\"content\":\"\\u2581\"}]},\"pre_tokenizer\":null," POST "\"model\":{\"type\":\"BPE\","
        "\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<0x41>\":2,"
        "\"a\":3,\"b\":4,\"\\u2581\":5,\"ab\":6,\"\\u2581ab\":8},\"merges\":[[\"a\",\"b\"],"
        "[\"\\u2581\",\"ab\"]]}}\0" SIDES "{{ jinja }}\0 ab AbZ<s>abword";
    fuzz_bytes_t seeds[2] = {0};
    fuzz_splice(&seeds[0], 0, 0, bpe, sizeof(bpe) - 1);
    fuzz_splice(&seeds[1], 0, 0, spm, sizeof(spm) - 1);
    const int rc = fuzz_main(argc, argv, seeds, 2, mutate, 30000);
    free(seeds[0].data);
    free(seeds[1].data);
    return rc;
}

#endif
