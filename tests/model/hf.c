/* A small Hugging Face directory made here, sound and damaged (the golden ones: hf_golden.c). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "model/bytes.h"
#include "model/gguf.h"

/* ---- a small directory */

static const char config_text[] =
    "{\"model_type\": \"bitnet\", \"hidden_size\": 8, \"intermediate_size\": 12,"
    " \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
    " \"vocab_size\": 6, \"max_position_embeddings\": 64, \"hidden_act\": \"relu2\","
    " \"tie_word_embeddings\": true, \"rope_theta\": 10000, \"eos_token_id\": [4, 5],"
    " \"quantization_config\": {\"quant_method\": \"bitnet\", \"linear_class\": \"autobitlinear\","
    " \"quantization_mode\": \"offline\"}}";

static const char header_text[] =
    "{\"__metadata__\": {\"format\": \"pt\"},"
    "\"model.embed_tokens.weight\": {\"dtype\": \"F16\", \"shape\": [6, 8], \"data_offsets\": [0, "
    "96]},"
    "\"model.norm.weight\": {\"dtype\": \"F32\", \"shape\": [8], \"data_offsets\": [96, 128]},"
    "\"model.layers.0.input_layernorm.weight\":"
    " {\"dtype\": \"BF16\", \"shape\": [8], \"data_offsets\": [128, 144]},"
    "\"model.layers.0.post_attention_layernorm.weight\":"
    " {\"dtype\": \"BF16\", \"shape\": [8], \"data_offsets\": [144, 160]},"
    "\"model.layers.0.self_attn.attn_sub_norm.weight\":"
    " {\"dtype\": \"BF16\", \"shape\": [8], \"data_offsets\": [160, 176]},"
    "\"model.layers.0.mlp.ffn_sub_norm.weight\":"
    " {\"dtype\": \"F16\", \"shape\": [12], \"data_offsets\": [176, 200]},"
    "\"model.layers.0.self_attn.q_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [2, 8], \"data_offsets\": [200, 216]},"
    "\"model.layers.0.self_attn.k_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [1, 8], \"data_offsets\": [216, 224]},"
    "\"model.layers.0.self_attn.v_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [1, 8], \"data_offsets\": [224, 232]},"
    "\"model.layers.0.self_attn.o_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [2, 8], \"data_offsets\": [232, 248]},"
    "\"model.layers.0.mlp.gate_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [3, 8], \"data_offsets\": [248, 272]},"
    "\"model.layers.0.mlp.up_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [3, 8], \"data_offsets\": [272, 296]},"
    "\"model.layers.0.mlp.down_proj.weight\":"
    " {\"dtype\": \"U8\", \"shape\": [2, 12], \"data_offsets\": [296, 320]},"
    "\"model.layers.0.self_attn.q_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [320, 324]},"
    "\"model.layers.0.self_attn.k_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [324, 328]},"
    "\"model.layers.0.self_attn.v_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [328, 332]},"
    "\"model.layers.0.self_attn.o_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [332, 336]},"
    "\"model.layers.0.mlp.gate_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [336, 340]},"
    "\"model.layers.0.mlp.up_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [340, 344]},"
    "\"model.layers.0.mlp.down_proj.weight_scale\":"
    " {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [344, 348]}}";
enum { DATA_BYTES = 348, SCALES_AT = 320 };

static const char tokenizer_text[] =
    "{\"added_tokens\": [{\"id\": 4, \"content\": \"<s>\", \"special\": true},"
    " {\"id\": 5, \"content\": \"word\", \"special\": false}],"
    " \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": "
    "false,"
    " \"use_regex\": true}, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\":"
    " [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\"}}]},"
    " \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 3},"
    " \"merges\": [\"a b\"]}}";

static char folder[64];

static const char *at(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *head, size_t n_head, const void *data,
                       size_t n)
{
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    if (n_head > 0) assert_int_equal(fwrite(head, 1, n_head, f), n_head);
    if (n > 0) assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* text with the first `from` replaced by `to`; to be freed. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *place = from == NULL ? NULL : strstr(text, from);
    if (from != NULL && place == NULL) fail_msg("'%s' is not in the text", from);
    char *out = malloc(strlen(text) + (to == NULL ? 0 : strlen(to)) + 1);
    assert_non_null(out);
    if (place == NULL) return strcpy(out, text);
    sprintf(out, "%.*s%s%s", (int)(place - text), text, to, place + strlen(from));
    return out;
}

typedef struct {
    char        file; /* 'c' config, 'h' header, 't' tokenizer */
    const char *from, *to;
} change_t;

static void write_directory(change_t change, float scale, size_t cut)
{
    uint8_t data[DATA_BYTES] = {0}, head[8];
    char   *texts[3];
    const struct {
        char        file;
        const char *text;
    } all[] = {{'c', config_text}, {'h', header_text}, {'t', tokenizer_text}};
    for (int i = 0; i < 3; i++)
        texts[i] =
            replaced(all[i].text, change.file == all[i].file ? change.from : NULL, change.to);
    data[200] = 0x1a; /* q: rows 0, 2, 4, 6 of column 0: +1, +1, 0, -1 */
    for (int i = SCALES_AT; i < DATA_BYTES; i += 4)
        model_store_u32(data + i, model_bits_of_float(scale));
    model_store_u64(head, strlen(texts[1]));
    write_file("config.json", texts[0], strlen(texts[0]), NULL, 0);
    write_file("tokenizer.json", texts[2], strlen(texts[2]), NULL, 0);
    FILE *f = fopen(at("model.safetensors"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, 8, f), 8);
    assert_int_equal(fwrite(texts[1], 1, strlen(texts[1]), f), strlen(texts[1]));
    assert_int_equal(fwrite(data, 1, DATA_BYTES - cut, f), DATA_BYTES - cut);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < 3; i++) free(texts[i]);
}

static model_t *open_sound(void)
{
    base_err_t err = {0};
    model_t   *m   = NULL;
    if (model_open(folder, false, &m, &err) != BASE_OK) fail_msg("%s", err.text);
    return m;
}

static void small(void **state)
{
    (void)state;
    int8_t trits[8];
    float  min = INFINITY, max = 0, norm[8];
    write_directory((change_t){0}, 0.25f, 0);
    model_t             *m = open_sound();
    const model_layer_t *l = &m->desc.layers[0];
    const model_vocab_t *v = &m->vocab;
    assert_int_equal(l->t[MODEL_ATTN_Q].type, MODEL_ROWS4);
    assert_true(l->t[MODEL_ATTN_Q].n_rows == 8 && l->t[MODEL_ATTN_Q].scale == 0.25f);
    static const int8_t column[] = {1, -1, 1, -1, 0, -1, -1, -1};
    for (uint64_t r = 0; r < 8; r++) {
        assert_true(model_row_trits(m->source, &l->t[MODEL_ATTN_Q], r, 0, 8, trits, &min, &max));
        assert_int_equal(trits[0], column[r]);
        assert_int_equal(trits[1], -1);
    }
    model_row_f32(m->source, &l->t[MODEL_ATTN_NORM], 0, 0, 8, norm);
    assert_true(norm[7] == 0 && l->t[MODEL_ATTN_NORM].type == MODEL_BF16);
    assert_true(model_str_is(v->pre, "gpt-2") && v->n_tokens == 6 && v->n_merges == 1);
    assert_true(v->types[2] == MODEL_TOKEN_UNUSED && model_str_is(v->tokens[2], "[PAD2]"));
    assert_true(v->types[4] == MODEL_TOKEN_CONTROL && v->types[5] == MODEL_TOKEN_USER_DEFINED);
    assert_true(v->bos == 4 && v->add_bos && v->eos == 4 && v->eot == 5);
    model_close(&m);

    write_directory((change_t){'h', "[1], \"data_offsets\": [320", "[], \"data_offsets\": [320"},
                    0.5f, 0);
    m = open_sound(); /* a scalar */
    assert_true(m->desc.layers[0].t[MODEL_ATTN_Q].scale == 0.5f);
    model_close(&m);

    write_directory((change_t){'t', "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}"},
                    0.25f, 0);
    m = open_sound();
    assert_int_equal(m->vocab.normal, MODEL_NORMAL_NFC);
    model_close(&m);

    write_directory((change_t){'c', "autobitlinear", "bitlinear"}, 4, 0); /* divides */
    m = open_sound();
    assert_true(m->desc.layers[0].t[MODEL_FFN_UP].scale == 0.25f);
    model_close(&m);

    static const char more[] = "{\"chat_template\": [{\"name\": \"x\", \"template\": \"X\"},"
                               " {\"name\": \"default\", \"template\": \"{{ y }}\"}],"
                               " \"bos_token\": {\"content\": \"word\"}, \"eos_token\": \"ab\"}";
    static const char many[] = "{\"weight_map\": {\"model.norm.weight\": \"model-1.safetensors\","
                               " \"model.embed_tokens.weight\": \"model-1.safetensors\"}}";
    write_directory((change_t){'t', "TemplateProcessing", "ByteLevel"}, 0.25f, 0);
    write_file("tokenizer_config.json", more, strlen(more), NULL, 0);
    write_file("model.safetensors.index.json", many, strlen(many), NULL, 0);
    char from[128];
    snprintf(from, sizeof(from), "%s", at("model.safetensors"));
    assert_int_equal(rename(from, at("model-1.safetensors")), 0);
    m = open_sound();
    assert_true(model_str_is(m->vocab.chat_template, "{{ y }}"));
    assert_true(m->vocab.bos == 5 && m->vocab.eos == 3 && !m->vocab.add_bos);
    assert_non_null(strstr(model_source_path(m->source, 0), "model-1.safetensors"));
    model_close(&m);
    static const char out[] = "{\"weight_map\": {\"x\": \"../model-1.safetensors\"}}";
    base_err_t        err   = {0};
    write_file("model.safetensors.index.json", out, strlen(out), NULL, 0);
    assert_int_equal(model_open(folder, false, &m, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "no file of this directory"));
    unlink(at("tokenizer_config.json"));
    unlink(at("model.safetensors.index.json"));
    assert_int_equal(model_open(folder, false, &m, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "holds no model.safetensors"));
    unlink(at("model-1.safetensors"));
}

/* Weights in two files of an index. */
static void two_files(void **state)
{
    (void)state;
    static const char many[] =
        "{\"weight_map\": {\"a\": \"m-2.safetensors\", \"b\": \"m-1.safetensors\","
        " \"c\": \"m-2.safetensors\"}}";
    static const char second[] = "{\"lm_head.weight\": {\"dtype\": \"F16\", \"shape\": [6, 8],"
                                 " \"data_offsets\": [0, 96]}}";
    uint8_t           head[8], data[96 + sizeof(second)] = {0};
    char              from[128];
    model_t          *m   = NULL;
    base_err_t        err = {0};
    write_directory((change_t){'c', "embeddings\": true", "embeddings\": false"}, 0.25f, 0);
    snprintf(from, sizeof(from), "%s", at("model.safetensors"));
    assert_int_equal(rename(from, at("m-1.safetensors")), 0);
    model_store_u64(head, sizeof(second) - 1);
    memcpy(data, second, sizeof(second) - 1);
    write_file("m-2.safetensors", head, 8, data, 96 + sizeof(second) - 1);
    write_file("model.safetensors.index.json", many, strlen(many), NULL, 0);
    m = open_sound();
    assert_true(!m->desc.tied && m->desc.head.type == MODEL_F16 && m->desc.embed.file == 1);
    assert_true(m->desc.head.file == 0 && m->desc.head.offset == 8 + sizeof(second) - 1);
    model_close(&m);
    write_file("m-2.safetensors", head, 8, data, 96 + sizeof(second) - 2);
    assert_int_equal(model_open(folder, false, &m, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "m-2.safetensors: the file is cut"));
    unlink(at("m-1.safetensors"));
    unlink(at("m-2.safetensors"));
    unlink(at("model.safetensors.index.json"));
}

/* SentencePiece's BPE: scores from the ranks of merges, spaces, bytes. */
static void sentencepiece(void **state)
{
    (void)state;
    static const char text[] =
        "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}],"
        " \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\","
        " \"prepend\": \"\\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"},"
        " \"content\": \"\\u2581\"}]}, \"pre_tokenizer\": null, \"post_processor\": null,"
        " \"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"unk_token\": \"<unk>\","
        " \"vocab\": {\"<unk>\": 0, \"<0x41>\": 1, \"a\": 2, \"\\u2581\": 3, \"\\u2581a\": 4,"
        " \"aa\": 5}, \"merges\": [[\"a\", \"a\"], [\"\\u2581\", \"a\"]]}}";
    write_directory((change_t){0}, 0.25f, 0);
    write_file("tokenizer.json", text, strlen(text), NULL, 0);
    model_t             *m = open_sound();
    const model_vocab_t *v = &m->vocab;
    assert_int_equal(v->kind, MODEL_VOCAB_SPM);
    assert_true(v->n_merges == 0 && v->unk == 0 && v->add_space_prefix);
    assert_true(v->types[0] == MODEL_TOKEN_UNKNOWN && v->types[1] == MODEL_TOKEN_BYTE);
    assert_true(v->scores[5] == 0 && v->scores[4] == -1 && v->scores[2] == -3);
    model_close(&m);
}

#define FORM(name) "{\"type\": \"" name "\"}"

/* A chain of forms is one form. */
static void normalizers(void **state)
{
    (void)state;
    static const struct {
        const char    *steps;
        model_normal_t form;
    } chains[] = {
        {"", MODEL_NORMAL_NONE},
        {FORM("NFC"), MODEL_NORMAL_NFC},
        {FORM("NFC") "," FORM("NFD"), MODEL_NORMAL_NFD},
        {FORM("NFKD") "," FORM("NFC"), MODEL_NORMAL_NFKC},
        {FORM("NFKC") "," FORM("NFC") "," FORM("NFD"), MODEL_NORMAL_NFKD},
    };
    for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
        char new[512];
        snprintf(new, sizeof(new),
                 "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [%s]}",
                 chains[i].steps);
        write_directory((change_t){'t', "\"normalizer\": null", new}, 0.25f, 0);
        model_t *m = open_sound();
        assert_int_equal(m->vocab.normal, chains[i].form);
        model_close(&m);
    }
}

#define SPLIT(regex)                                                                               \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, \"behavior\": \"Isolated\","   \
    " \"invert\": false}, "
#define BYTES(regex)                                                                               \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": " regex "}"
#define DIGITS(single) "{\"type\": \"Digits\", \"individual_digits\": " single "}"
#define QWEN                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "              \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* A dense llama with biases and YaRN, and 1bitLLM's names: both tiny, of floats. */
static void put_tensor(char *text, size_t n, size_t *used, const char *name, uint32_t rows,
                       uint32_t cols)
{
    const size_t at_byte = *used, bytes = 2ull * (rows == 0 ? 1 : rows) * cols;
    const size_t end = strlen(text);
    char         shape[32];
    if (rows == 0)
        snprintf(shape, sizeof(shape), "%u", cols);
    else
        snprintf(shape, sizeof(shape), "%u, %u", rows, cols);
    snprintf(text + end, n - end,
             "%c\"%s\": {\"dtype\": \"BF16\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
             end == 0 ? '{' : ',', name, shape, at_byte, at_byte + bytes);
    *used = at_byte + bytes;
}

static void write_floats(const char *config, bool bitnet)
{
    static const struct {
        const char *name;
        uint32_t    rows, cols;
        int         who; /* 0: both, 1: bitnet, 2: llama */
    } list[] = {
        {"model.embed_tokens.weight", 6, 8, 0},
        {"model.norm.weight", 0, 8, 0},
        {"model.layers.0.input_layernorm.weight", 0, 8, 0},
        {"model.layers.0.post_attention_layernorm.weight", 0, 8, 0},
        {"model.layers.0.self_attn.inner_attn_ln.weight", 0, 8, 1},
        {"model.layers.0.mlp.ffn_layernorm.weight", 0, 12, 1},
        {"model.layers.0.self_attn.q_proj.weight", 8, 8, 0},
        {"model.layers.0.self_attn.k_proj.weight", 4, 8, 0},
        {"model.layers.0.self_attn.v_proj.weight", 4, 8, 0},
        {"model.layers.0.self_attn.o_proj.weight", 8, 8, 0},
        {"model.layers.0.mlp.gate_proj.weight", 12, 8, 0},
        {"model.layers.0.mlp.up_proj.weight", 12, 8, 0},
        {"model.layers.0.mlp.down_proj.weight", 8, 12, 0},
        {"model.layers.0.self_attn.q_proj.bias", 0, 8, 2},
        {"model.layers.0.self_attn.k_proj.bias", 0, 4, 2},
        {"model.layers.0.self_attn.v_proj.bias", 0, 4, 2},
        {"model.layers.0.self_attn.o_proj.bias", 0, 8, 2},
        {"model.layers.0.self_attn.rotary_emb.inv_freq", 0, 2, 0},
    };
    char    text[4096]           = "";
    uint8_t all[8 + 4096 + 4096] = {0};
    size_t  used                 = 0;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (list[i].who != (bitnet ? 2 : 1))
            put_tensor(text, sizeof(text), &used, list[i].name, list[i].rows, list[i].cols);
    strcat(text, "}");
    model_store_u64(all, strlen(text));
    memcpy(all + 8, text, strlen(text));
    assert_true(used < 4096);
    write_file("model.safetensors", all, 8 + strlen(text), all + 8 + 4096, used);
    write_file("config.json", config, strlen(config), NULL, 0);
}

static void floats(void **state)
{
    (void)state;
#define TINY                                                                                       \
    "\"hidden_size\": 8, \"intermediate_size\": 12, \"num_hidden_layers\": 1,"                     \
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 6,"                  \
    " \"tie_word_embeddings\": true, "
    write_directory((change_t){0}, 0.25f, 0);
    write_floats("{\"model_type\": \"llama\", " TINY "\"attention_bias\": true,"
                 " \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 16,"
                 " \"original_max_position_embeddings\": 512}}",
                 false);
    model_t             *m = open_sound();
    const model_layer_t *l = &m->desc.layers[0];
    assert_true(l->t[MODEL_ATTN_K_BIAS].type == MODEL_BF16 && l->t[MODEL_ATTN_K_BIAS].n_cols == 4);
    assert_true(l->t[MODEL_ATTN_OUT_BIAS].n_cols == 8 && !l->t[MODEL_ATTN_Q].online);
    assert_int_equal(l->t[MODEL_ATTN_SUB_NORM].type, MODEL_NONE);
    assert_true(fabs(m->desc.rope_magnitude - (0.1 * log(4) + 1)) < 1e-15);
    assert_true(m->desc.norm_eps == 1e-6f && m->desc.context == 2048);
    model_close(&m);

    /* transformers 5.23: rope_scaling before rope_parameters, its base included; the trained
     * context at the top before that inside. YaRN's default factor tells which one was taken. */
    write_floats("{\"model_type\": \"llama\", " TINY "\"attention_bias\": true,"
                 " \"original_max_position_embeddings\": 256,"
                 " \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2,"
                 " \"rope_theta\": 5000},"
                 " \"rope_scaling\": {\"rope_type\": \"yarn\","
                 " \"original_max_position_embeddings\": 512}}",
                 false);
    m = open_sound();
    assert_true(m->desc.rope_scaling == MODEL_SCALING_YARN && m->desc.rope_base == 10000);
    assert_true(fabs(m->desc.rope_magnitude - (0.1 * log(2048.0 / 256) + 1)) < 1e-15);
    model_close(&m);

    write_floats("{\"model_type\": \"llama\", \"architectures\": [\"BitnetForCausalLM\"]," TINY
                 "\"hidden_act\": \"silu\", \"weight_bits\": 1, \"input_bits\": 8}",
                 true);
    m = open_sound();
    l = &m->desc.layers[0];
    assert_true(l->t[MODEL_FFN_SUB_NORM].n_cols == 12 && l->t[MODEL_FFN_DOWN].online);
    assert_true(m->desc.act == MODEL_ACT_SILU && m->desc.rope_base == 10000);
    model_close(&m);
}

/* Pre-tokenizers as published models write them; the golden checkpoints have llama3's. */
static void pre_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *steps, *name; /* NULL: refused */
    } cases[] = {
        {BYTES("true"), "gpt-2"},
        {SPLIT(QWEN) BYTES("false"), "qwen2"},
        {DIGITS("true") ", " BYTES("true"), "smollm"},
        {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}, " BYTES("true") ", " DIGITS(
             "false") ", " SPLIT("[0-9][0-9][0-9]") "{}",
         NULL},
        {SPLIT("[\\r\\n]") SPLIT("\\\\s?\\\\p{L}+") SPLIT("\\\\s?\\\\p{P}+") SPLIT(
             "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+") DIGITS("true") ", " BYTES("false"),
         "deepseek-coder"},
        {SPLIT(QWEN "|x") BYTES("false"), NULL},
        {SPLIT(QWEN) BYTES("true"), NULL},
        {DIGITS("false") ", " BYTES("true"), NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char          to[1024];
        model_t      *m   = NULL;
        base_err_t    err = {0};
        base_status_t st  = BASE_OK;
        snprintf(to, sizeof(to),
                 "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [%s]}",
                 cases[i].steps);
        write_directory((change_t){'t',
                                   "\"pre_tokenizer\": {\"type\": \"ByteLevel\","
                                   " \"add_prefix_space\": false, \"use_regex\": true}",
                                   to},
                        0.25f, 0);
        st = model_open(folder, false, &m, &err);
        assert_int_equal(st, cases[i].name == NULL ? BASE_ERR_UNSUPPORTED : BASE_OK);
        if (st == BASE_OK && !model_str_is(m->vocab.pre, cases[i].name))
            fail_msg("%zu: %.*s", i, (int)m->vocab.pre.bytes, m->vocab.pre.text);
        model_close(&m);
    }
}

#define T(name) "\"model.layers.0." name ".weight\""

static const struct {
    change_t      change;
    float         scale;
    size_t        cut;
    base_status_t status;
    const char   *text;
} damages[] = {
    {{'c', "{\"model_type\"", "[\"model_type\""}, 0, 0, BASE_ERR_INPUT, "no JSON"},
    {{'c', "\"bitnet\"", "\"gemma\""}, 0, 0, BASE_ERR_UNSUPPORTED, "'gemma' is not supported"},
    {{'c', "\"hidden_size\": 8", "\"hidden_size\": \"8\""},
     0,
     0,
     BASE_ERR_INPUT,
     "'hidden_size' is not"},
    {{'c', "\"hidden_size\": 8", "\"x\": 8"}, 0, 0, BASE_ERR_INPUT, "'hidden_size' is missing"},
    {{'c', "\"hidden_size\": 8", "\"hidden_size\": 9"}, 0, 0, BASE_ERR_INPUT, "no head dimension"},
    {{'c', "\"hidden_size\": 8", "\"hidden_size\": 16"}, 0, 0, BASE_ERR_INPUT, "q_proj"},
    {{'c', "_layers\": 1", "_layers\": 0"}, 0, 0, BASE_ERR_INPUT, "'num_hidden_layers' is 0"},
    {{'c', "_layers\": 1", "_layers\": 2000"}, 0, 0, BASE_ERR_LIMIT, "'num_hidden_layers' is 2000"},
    {{'c', "_layers\": 1", "_layers\": 2"}, 0, 0, BASE_ERR_INPUT, "model.layers.1.input_layernorm"},
    {{'c', "relu2", "gelu"}, 0, 0, BASE_ERR_UNSUPPORTED, "'hidden_act' is \"gelu\""},
    {{'c', "\"hidden_act\"", "\"x\""}, 0, 0, BASE_ERR_INPUT, "'hidden_act' is missing"},
    {{'c', "\"quant_method\": \"bitnet\"", "\"quant_method\": \"gptq\""},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'quant_method' is \"gptq\""},
    {{'c', "autobitlinear", "bitblas"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'linear_class' is \"bitblas\""},
    {{'c', "offline", "mixed"}, 0, 0, BASE_ERR_UNSUPPORTED, "'quantization_mode' is \"mixed\""},
    {{'c', "offline\"", "offline\", \"use_rms_norm\": true"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'use_rms_norm' is true"},
    {{'c', "offline\"", "offline\", \"modules_to_not_convert\": [\"lm_head\", \"q_proj\"]"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'modules_to_not_convert' is \"q_proj\""},
    {{'c', "offline", "online"}, 0, 0, BASE_ERR_UNSUPPORTED, "dtype U8"},
    {{'c', "\"vocab_size\": 6", "\"vocab_size\": 6, \"mlp_bias\": true"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'mlp_bias' is true"},
    {{'c', "\"vocab_size\": 6", "\"vocab_size\": 6, \"attention_bias\": true"},
     0,
     0,
     BASE_ERR_INPUT,
     "q_proj.bias is missing"},
    {{'c', "\"rope_theta\": 10000", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'rope_type' is \"dynamic\""},
    {{'c', "\"rope_theta\": 10000", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 2}"},
     0,
     0,
     BASE_ERR_INPUT,
     "'original_max_position_embeddings' is missing"},
    {{'c', "\"rope_theta\": 10000", "\"partial_rotary_factor\": 0.5"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'partial_rotary_factor' is 0.5"},
    {{'c', "\"rope_theta\": 10000", "\"rope_theta\": 0.5"}, 0, 0, BASE_ERR_INPUT, "base is 0.5"},
    {{'c', "embeddings\": true", "embeddings\": false"},
     0,
     0,
     BASE_ERR_INPUT,
     "lm_head.weight is missing"},
    {{'c', "\"vocab_size\": 6", "\"vocab_size\": 6, \"vocab_size\": 7"},
     0,
     0,
     BASE_ERR_INPUT,
     "duplicate"},
    {{'c', "\"bitnet\"", "\"llama\""}, 0, 0, BASE_ERR_UNSUPPORTED, "sub_norm"},
    {{0}, 4, 0, BASE_ERR_INPUT, "weight_scale is 4, which makes no sense"},
    {{0}, -1, 0, BASE_ERR_INPUT, "weight_scale is -1"},
    {{0}, INFINITY, 0, BASE_ERR_INPUT, "weight_scale is inf"},
    {{'c', "autobitlinear", "bitlinear"}, 0.25f, 0, BASE_ERR_INPUT, "which divides by it"},
    {{0}, 0, 1, BASE_ERR_INPUT, "the file is cut"},
    {{0}, 0, DATA_BYTES, BASE_ERR_INPUT, "the file is cut"},
    {{'h', "[96, 128]", "[95, 127]"}, 0, 0, BASE_ERR_INPUT, "overlap"},
    {{'h', "[96, 128]", "[96, 127]"}, 0, 0, BASE_ERR_INPUT, "needs 32 bytes"},
    {{'h', "[96, 128]", "[128, 96]"}, 0, 0, BASE_ERR_INPUT, "data_offsets 128 to 96"},
    {{'h', "[96, 128]", "[-1, 31]"}, 0, 0, BASE_ERR_INPUT, "no pair of offsets"},
    {{'h', "[96, 128]", "[9007199254740992, 9007199254741024]"}, 0, 0, BASE_ERR_INPUT, "is cut"},
    {{'h', "[96, 128]", "[96]"}, 0, 0, BASE_ERR_INPUT, "no pair of offsets"},
    {{'h', "\"F32\"", "\"F128\""}, 0, 0, BASE_ERR_UNSUPPORTED, "unknown dtype 'F128'"},
    {{'h', "\"F32\"", "\"I32\""}, 0, 0, BASE_ERR_UNSUPPORTED, "dtype I32; supported here"},
    {{'h', "\"F32\"", "7"}, 0, 0, BASE_ERR_INPUT, "'dtype' is no string"},
    {{'h', "\"shape\": [8]", "\"shape\": [2, 2, 2]"}, 0, 0, BASE_ERR_INPUT, "3 dimensions"},
    {{'h', "\"shape\": [8]", "\"shape\": [-8]"}, 0, 0, BASE_ERR_INPUT, "'shape' holds no sizes"},
    {{'h', "\"shape\": [8]", "\"shape\": [4611686018427387904, 8]"},
     0,
     0,
     BASE_ERR_INPUT,
     "too large"},
    {{'h', "\"shape\": [6, 8]", "\"shape\": [8, 6]"}, 0, 0, BASE_ERR_INPUT, "8 rows of 6"},
    {{'h', "\"shape\": [2, 8]", "\"shape\": [1, 16]"},
     0,
     0,
     BASE_ERR_INPUT,
     "1 packed rows, want 2"},
    {{'h', T("self_attn.v_proj"), "\"x\""}, 0, 0, BASE_ERR_INPUT, "v_proj.weight is missing"},
    {{'h', "k_proj.weight_scale", "k_proj.weight_zoom"},
     0,
     0,
     BASE_ERR_INPUT,
     "weight_scale is missing"},
    {{'h', "{\"__metadata__\": {\"format\": \"pt\"},", "["}, 0, 0, BASE_ERR_INPUT, "no JSON"},
    {{'h', "\"pt\"", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"},
     0,
     0,
     BASE_ERR_LIMIT,
     "deeper than 32"},
    {{'t', "\"BPE\"", "\"Unigram\""}, 0, 0, BASE_ERR_UNSUPPORTED, "'Unigram'; supported is BPE"},
    {{'t', "\"ab\": 3", "\"ab\": 1"}, 0, 0, BASE_ERR_INPUT, "two tokens of the same id"},
    {{'t', "\"ab\": 3", "\"ab\": -3"}, 0, 0, BASE_ERR_INPUT, "no number from 0 up"},
    {{'t', "\"ab\": 3", "\"ab\": 3000000"}, 0, 0, BASE_ERR_LIMIT, "the id 3000000"},
    {{'t', "\"ab\": 3", "\"ab\": 6"}, 0, 0, BASE_ERR_INPUT, "7 tokens (the highest"},
    {{'t', "\"a b\"", "\"ab\""}, 0, 0, BASE_ERR_INPUT, "no pair with a space"},
    {{'t', "\"a b\"", "[\"a\"]"}, 0, 0, BASE_ERR_INPUT, "no pair of texts"},
    {{'t', "\"merges\": [\"a b\"]", "\"merges\": 3"},
     0,
     0,
     BASE_ERR_INPUT,
     "'model.merges' is no array"},
    {{'t', "\"vocab\": {", "\"vocab\": 3, \"x\": {"},
     0,
     0,
     BASE_ERR_INPUT,
     "'model.vocab' is no object"},
    {{'t', "\"content\": \"<s>\"", "\"content\": 3"},
     0,
     0,
     BASE_ERR_INPUT,
     "'content' of an added token"},
    {{'t', "\"ByteLevel\"", "\"Whitespace\""},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "'pre_tokenizer' is none"},
    {{'t', "\"normalizer\": null",
      "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"},"
      " {\"type\": \"StripAccents\"}]}"},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "the normalizer 'StripAccents' (NFC, NFD, NFKC, NFKD are) is not supported"},
    {{'t', "{\"Sequence\"", "{\"SpecialToken\": {\"id\": \"word\"}}, {\"Sequence\""},
     0,
     0,
     BASE_ERR_UNSUPPORTED,
     "a second special token"},
};

static void each_damage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        base_err_t err = {0};
        model_t   *m   = NULL;
        write_directory(damages[i].change, damages[i].scale == 0 ? 0.25f : damages[i].scale,
                        damages[i].cut);
        base_status_t st = model_open(folder, false, &m, &err);
        if (st != damages[i].status || strstr(err.text, damages[i].text) == NULL ||
            strstr(err.text, folder) == NULL)
            fail_msg("%zu: status %s, text '%s', want %s and '%s'", i, base_status_name(st),
                     err.text, base_status_name(damages[i].status), damages[i].text);
    }
}

/* Random bytes put anywhere: any status, no crash, one line. */
static void random_damage(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    uint64_t                 seed    = 1;
    for (int i = 0; i < 600; i++) {
        write_directory((change_t){0}, 0.25f, 0);
        FILE *f = fopen(at(names[i % 3]), "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, 0, SEEK_END), 0);
        const long n = ftell(f);
        for (int k = 0; k < 1 + i % 4; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            assert_int_equal(fseek(f, (long)((seed >> 33) % (uint64_t)n), SEEK_SET), 0);
            fputc((int)(seed >> 56), f);
        }
        fclose(f);
        if (i % 5 == 0) assert_int_equal(truncate(at(names[i % 3]), n * (i % 50) / 50), 0);
        base_err_t err = {0};
        model_t   *m   = NULL;
        if (model_open(folder, false, &m, &err) != BASE_OK) {
            assert_true(strlen(err.text) > 0 && strpbrk(err.text, "\n\r") == NULL);
            assert_non_null(strstr(err.text, folder));
        }
        model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small),       cmocka_unit_test(sentencepiece),
        cmocka_unit_test(normalizers), cmocka_unit_test(two_files),
        cmocka_unit_test(floats),      cmocka_unit_test(pre_tokenizers),
        cmocka_unit_test(each_damage), cmocka_unit_test(random_damage),
    };
    base_log_setup(BASE_LOG_ERROR, false, -1);
    snprintf(folder, sizeof(folder), "/tmp/trireme-hf-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(at("config.json"));
    unlink(at("tokenizer.json"));
    unlink(at("model.safetensors"));
    rmdir(folder);
    return failed;
}
