/* Fuzzing a Hugging Face directory as a whole: any files beside each other give a status, or a
 * model whose rows can be read.
 *
 * First byte: odd for the vocabulary alone. Then files that replace, or with no bytes take away,
 * those of a sound directory: number, length in two bytes, bytes. Built and run as fuzz.h says. */
#include "tests/fuzz/hf.h"

enum { CONFIG, TOKENIZER, MORE, GENERATION, JINJA, INDEX, WEIGHTS, PART1, PART2, FILES };

static const char *const names[FILES] = {"config.json",           "tokenizer.json",
                                         "tokenizer_config.json", "generation_config.json",
                                         "chat_template.jinja",   "model.safetensors.index.json",
                                         "model.safetensors",     "m-1.safetensors",
                                         "m-2.safetensors"};

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":6,\"bos_token_id\":1,"
    "\"max_position_embeddings\":64}";
static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":"
    "\"<s>\",\"special\":true}],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
    "false,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2,\"b\":3,\"ab\":4},"
    "\"merges\":[\"a b\"]}}";
static const char more[]       = "{\"bos_token\":\"<s>\",\"chat_template\":\"{{ x }}\"}";
static const char generation[] = "{\"eos_token_id\":[2,3]}";
static const char map[]        = "{\"metadata\":{\"total_size\":9},\"weight_map\":{\"a\":"
                                 "\"m-1.safetensors\",\"extra\":\"m-2.safetensors\"}}";

static fuzz_bytes_t sound[FILES];

static void leave(void)
{
    for (int i = 0; i < FILES; i++) {
        fuzz_write(names[i], NULL, 0);
        free(sound[i].data);
    }
    fuzz_folder_remove();
}

/* The sound directory has its weights in one file; the index waits for it to be taken away. */
static void make_sound(void)
{
    const hf_config_t shape          = hf_shape(false, HF_DENSE);
    const char *const texts[WEIGHTS] = {config, tokenizer, more, generation, NULL, map};
    hf_file_t         extra          = {0};
    uint8_t           length[8];
    if (fuzz_folder[0] != '\0') return;
    fuzz_folder_make(leave);
    for (int i = 0; i < WEIGHTS; i++)
        if (texts[i] != NULL) fuzz_splice(&sound[i], 0, 0, texts[i], strlen(texts[i]));
    sound[WEIGHTS] = hf_weights(&shape);
    fuzz_splice(&sound[PART1], 0, 0, sound[WEIGHTS].data, sound[WEIGHTS].n);
    fuzz_splice(&extra.header, 0, 0, "{", 1);
    hf_put(&extra, "extra", "F16", 2, 3);
    fuzz_splice(&extra.header, extra.header.n, 0, "}", 1);
    model_store_u64(length, extra.header.n);
    fuzz_splice(&extra.header, 0, 0, length, 8);
    fuzz_splice(&extra.header, extra.header.n, 0, extra.data.data, extra.data.n);
    sound[PART2] = extra.header;
    free(extra.data.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool changed[FILES];
    static bool written;
    bool        here[FILES] = {false};
    model_t    *m           = NULL;
    base_err_t  err         = {0};
    fuzz_quiet();
    make_sound();
    if (size == 0) return 0;
    const model_open_options_t options = {.vocab_only = data[0] % 2 == 1};
    for (size_t at = 1; at + 3 <= size;) {
        const int i = data[at] % FILES;
        size_t    n = data[at + 1] | (size_t)data[at + 2] << 8;
        at += 3;
        if (n > size - at) n = size - at;
        fuzz_write(names[i], data + at, n);
        here[i] = true;
        at += n;
    }
    for (int i = 0; i < FILES; i++) {
        if (!here[i] && (changed[i] || !written)) fuzz_write(names[i], sound[i].data, sound[i].n);
        changed[i] = here[i];
    }
    written          = true;
    base_status_t st = model_hf_open(fuzz_folder, &options, &m, &err);
    if (st == BASE_OK && !options.vocab_only)
        hf_read(&m->desc, m->source);
    else if (st != BASE_OK)
        fuzz_expect(base_status_exit(st) == 3 && strstr(err.text, fuzz_folder) != NULL, "open",
                    &err);
    model_close(&m);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static void put(fuzz_bytes_t *b, uint8_t file, const void *bytes, size_t n)
{
    const uint8_t head[] = {file, (uint8_t)n, (uint8_t)(n >> 8)};
    fuzz_splice(b, b->n, 0, head, sizeof(head));
    fuzz_splice(b, b->n, 0, bytes, n);
}

/* One file, changed as text or as bytes, or another file taken away. */
static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    const uint64_t pick = fuzz_random(state);
    const uint8_t  file = (uint8_t)(pick % FILES);
    fuzz_bytes_t   one  = {0};
    if (pick >> 8 & 1) {
        fuzz_mutate_bytes(b, state);
        return;
    }
    fuzz_splice(&one, 0, 0, sound[file].data, sound[file].n);
    if (file < WEIGHTS)
        fuzz_mutate_json(&one, NULL, 0, state);
    else
        fuzz_mutate_bytes(&one, state);
    if ((pick >> 16) % 4 == 0) one.n = 0;
    if (b->n + one.n + 3 < 16384) put(b, file, one.data, one.n);
    free(one.data);
}

int main(int argc, char **argv)
{
    enum { SEEDS = 4 };
    fuzz_bytes_t seeds[SEEDS] = {0};
    make_sound();
    for (uint8_t i = 0; i < SEEDS; i++) fuzz_splice(&seeds[i], 0, 0, &i, 1);
    for (uint8_t i = 0; i < WEIGHTS; i++) put(&seeds[1], i, sound[i].data, sound[i].n);
    put(&seeds[2], WEIGHTS, NULL, 0);
    put(&seeds[2], INDEX, sound[INDEX].data, sound[INDEX].n);
    put(&seeds[2], CONFIG, sound[CONFIG].data, sound[CONFIG].n);
    put(&seeds[3], WEIGHTS, sound[WEIGHTS].data, sound[WEIGHTS].n);
    const int rc = fuzz_main(argc, argv, seeds, SEEDS, mutate, 5000);
    for (int i = 0; i < SEEDS; i++) free(seeds[i].data);
    return rc;
}

#endif
