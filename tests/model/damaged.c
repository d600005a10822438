/* Damaged and hostile GGUF files: each gives one clean error that names the file, never a crash.
 * Run under -fsanitize=address,undefined these tests see every byte read too far.
 * timeout: 300 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/model/builder.h"

static void check_error(base_status_t st, const base_err_t *err, const char *what, size_t at)
{
    if (base_status_exit(st) != 3 || strstr(err->text, MINI_LABEL) == NULL)
        fail_msg("%s at %zu: status %s, text '%s'", what, at, base_status_name(st), err->text);
}

static void sound(void **state)
{
    (void)state;
    base_err_t err = {0};
    build_t    b   = mini_model(NULL, NULL);
    if (mini_open(b.data, b.used, false, &err) != BASE_OK) fail_msg("%s", err.text);
    if (mini_open(b.data, b.used, true, &err) != BASE_OK) fail_msg("%s", err.text);
    free(b.data);
}

/* Cut at every byte of the directory and at every 1/64 of the whole. */
static void cut(void **state)
{
    (void)state;
    size_t     directory = 0;
    build_t    b         = mini_model(NULL, &directory);
    base_err_t err;
    for (size_t n = 0; n < b.used; n = n < directory + 64 ? n + 1 : n + b.used / 64) {
        memset(&err, 0, sizeof(err));
        check_error(mini_open(b.data, n, false, &err), &err, "cut", n);
    }
    memset(&err, 0, sizeof(err));
    check_error(mini_open(b.data, b.used - 1, false, &err), &err, "cut", b.used - 1);
    assert_non_null(strstr(err.text, "is cut"));
    char want[64];
    snprintf(want, sizeof(want), "%zu bytes, needs %zu", b.used - 1, b.used);
    assert_non_null(strstr(err.text, want));
    free(b.data);
}

/* Each byte of the directory changed in several ways: an error, or a model whose rows can be
 * read. */
static void each_byte(void **state)
{
    (void)state;
    static const uint8_t masks[]   = {0xff, 0x01, 0x80, 0x20};
    size_t               directory = 0;
    uint32_t             refused   = 0;
    build_t              b         = mini_model(NULL, &directory);
    for (size_t i = 0; i < directory; i++) {
        const uint8_t old = b.data[i];
        for (size_t k = 0; k < sizeof(masks) + 2; k++) {
            base_err_t err   = {0};
            b.data[i]        = k < sizeof(masks) ? old ^ masks[k] : k == sizeof(masks) ? 0xff : 0;
            base_status_t st = mini_open_in_place(b.data, b.used, false, &err);
            if (st == BASE_OK) continue;
            refused++;
            check_error(st, &err, "byte changed", i);
        }
        b.data[i] = old;
    }
    assert_true(refused > directory / 2);
    free(b.data);
}

/* The same with eight bytes set: counts, lengths and offsets at their extremes. */
static void each_word(void **state)
{
    (void)state;
    static const uint64_t words[]   = {UINT64_MAX, INT64_MAX,         (uint64_t)1 << 63,
                                       UINT32_MAX, (uint64_t)1 << 32, UINT64_MAX - 31,
                                       0};
    size_t                directory = 0;
    build_t               b         = mini_model(NULL, &directory);
    for (size_t i = 8; i + 8 <= directory; i++) {
        uint8_t old[8];
        memcpy(old, b.data + i, 8);
        for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++) {
            base_err_t err = {0};
            model_store_u64(b.data + i, words[k]);
            base_status_t st = mini_open_in_place(b.data, b.used, false, &err);
            if (st != BASE_OK) check_error(st, &err, "word changed", i);
        }
        memcpy(b.data + i, old, 8);
    }
    free(b.data);
}

/* ---- one damage, one text
 * ------------------------------------------------------------------------ */

static void key_twice(build_t *b)
{
    build_key_u32(b, "general.file_type", 1);
    build_key_u32(b, "general.file_type", 1);
}
static void key_with_nul(build_t *b)
{
    build_u64(b, 10);
    build_put(b, "bitnet\0abc", 10);
    build_u32(b, MODEL_GGUF_U8);
    build_put(b, "x", 1);
}
static void key_empty(build_t *b)
{
    build_key_u32(b, "", 1);
}
static void key_long(build_t *b)
{
    build_u64(b, 70000);
    for (int i = 0; i < 70000; i++) build_put(b, "k", 1);
    build_u32(b, MODEL_GGUF_U8);
    build_put(b, "x", 1);
}
static void array_of_arrays(build_t *b)
{
    build_array(b, "nested", MODEL_GGUF_ARRAY, 1);
    build_u32(b, MODEL_GGUF_U8);
    build_u64(b, 0);
}
static void array_huge(build_t *b)
{
    build_array(b, "huge", MODEL_GGUF_U64, (uint64_t)1 << 61);
}
static void array_huge_strings(build_t *b)
{
    build_array(b, "huge", MODEL_GGUF_STRING, UINT64_MAX);
}
static void type_unknown(build_t *b)
{
    build_key(b, "odd", 13);
}
static void string_huge(build_t *b)
{
    build_key(b, "long", MODEL_GGUF_STRING);
    build_u64(b, UINT64_MAX - 4);
}
static void bool_two(build_t *b)
{
    build_key(b, "tokenizer.ggml.add_bos_token", MODEL_GGUF_BOOL);
    build_put(b, "\2", 1);
}
static void add_bos_number(build_t *b)
{
    build_key_u32(b, "tokenizer.ggml.add_bos_token", 1);
}
static void alignment_string(build_t *b)
{
    build_key_str(b, "general.alignment", "32");
}
static void bos_out_of_range(build_t *b)
{
    build_key_u32(b, "tokenizer.ggml.bos_token_id", MINI_VOCAB);
}
static void eps_string(build_t *b)
{
    build_key_str(b, "bitnet.attention.layer_norm_rms_epsilon", "small");
}
static void eps_nan(build_t *b)
{
    build_key_f32(b, "bitnet.attention.layer_norm_rms_epsilon", model_float_of_bits(0x7fc00000));
}
static void eps_negative(build_t *b)
{
    build_key_f32(b, "bitnet.attention.layer_norm_rms_epsilon", -1);
}
static void width_float(build_t *b)
{
    build_key_f32(b, "bitnet.embedding_length", 256);
}
static void layers_zero(build_t *b)
{
    build_key_u32(b, "bitnet.block_count", 0);
}
static void layers_many(build_t *b)
{
    build_key_u32(b, "bitnet.block_count", UINT32_MAX);
}
static void layers_three(build_t *b)
{
    build_key_u32(b, "bitnet.block_count", 3);
}
static void layers_negative(build_t *b)
{
    build_key(b, "bitnet.block_count", MODEL_GGUF_I32);
    build_u32(b, (uint32_t)-1);
}
static void heads_array_short(build_t *b)
{
    build_array(b, "bitnet.attention.head_count", MODEL_GGUF_U32, 1);
    build_u32(b, MINI_HEADS);
}
static void heads_array_strings(build_t *b)
{
    build_array(b, "bitnet.attention.head_count", MODEL_GGUF_STRING, 2);
    build_str(b, "2");
    build_str(b, "2");
}
static void kv_heads_indivisible(build_t *b)
{
    build_key_u32(b, "bitnet.attention.head_count_kv", 3);
}
static void ffn_wrong(build_t *b)
{
    build_key_u32(b, "bitnet.feed_forward_length", 512);
}
static void head_dim_wrong(build_t *b)
{
    build_key_u32(b, "bitnet.attention.key_length", 64);
}
static void head_dim_values(build_t *b)
{
    build_key_u32(b, "bitnet.attention.value_length", 64);
}
static void rope_odd(build_t *b)
{
    build_key_u32(b, "bitnet.rope.dimension_count", 3);
}
static void rope_wide(build_t *b)
{
    build_key_u32(b, "bitnet.rope.dimension_count", 130);
}
static void rope_long(build_t *b)
{
    build_key_str(b, "bitnet.rope.scaling.type", "longrope");
}
static void rope_base_zero(build_t *b)
{
    build_key_f32(b, "bitnet.rope.freq_base", 0);
}
static void vocab_size_wrong(build_t *b)
{
    build_key_u32(b, "bitnet.vocab_size", 261);
}
static void tokenizer_odd(build_t *b)
{
    build_key_str(b, "tokenizer.ggml.model", "rwkv");
}
static void tokens_many(build_t *b)
{
    build_array(b, "tokenizer.ggml.tokens", MODEL_GGUF_STRING, MINI_VOCAB + 1);
    for (int i = 0; i <= MINI_VOCAB; i++) build_str(b, "x");
}
static void tokens_none(build_t *b)
{
    build_array(b, "tokenizer.ggml.tokens", MODEL_GGUF_STRING, 0);
}
static void tokens_numbers(build_t *b)
{
    build_array(b, "tokenizer.ggml.tokens", MODEL_GGUF_U8, 4);
    build_put(b, "abcd", 4);
}
static void scores_short(build_t *b)
{
    build_array(b, "tokenizer.ggml.scores", MODEL_GGUF_F32, 1);
    build_u32(b, 0);
}
static void scores_nan(build_t *b)
{
    build_array(b, "tokenizer.ggml.scores", MODEL_GGUF_F32, MINI_VOCAB);
    for (int i = 0; i < MINI_VOCAB; i++) build_u32(b, 0x7fc00000);
}
static void types_odd(build_t *b)
{
    build_array(b, "tokenizer.ggml.token_type", MODEL_GGUF_I32, MINI_VOCAB);
    for (int i = 0; i < MINI_VOCAB; i++) build_u32(b, 7);
}
static void merge_without_space(build_t *b)
{
    build_array(b, "tokenizer.ggml.merges", MODEL_GGUF_STRING, 1);
    build_str(b, "abc");
}
static void split_second(build_t *b)
{
    build_key_u32(b, "split.count", 2);
    build_key_u32(b, "split.no", 1);
}
static void split_unnamed(build_t *b)
{
    build_key_u32(b, "split.count", 2);
}

#define ARCH     "bitnet."
#define MORE(f)  .more_keys = (f), .extra_keys = 1
#define EPS      "attention.layer_norm_rms_epsilon"
#define Q        "blk.1.attn_q.weight"
#define NAME_256 NAME_64 NAME_64 NAME_64 NAME_64
#define NAME_64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char   *what;
    knobs_t       knobs;
    base_status_t status;
    const char   *text; /* must be in the error */
} damages[] = {
    {"version 1", {.version = 1}, BASE_ERR_UNSUPPORTED, "version 1"},
    {"version 4", {.version = 4}, BASE_ERR_UNSUPPORTED, "version 4"},
    {"big endian", {.version = 0x03000000}, BASE_ERR_UNSUPPORTED, "big-endian"},
    {"more tensors", {.add_tensors = 1}, BASE_ERR_INPUT, ""},
    {"many tensors", {.add_tensors = 1 << 30}, BASE_ERR_LIMIT, "number of tensors"},
    {"tensors wrap", {.add_tensors = UINT64_MAX - 1000}, BASE_ERR_LIMIT, "number of tensors"},
    {"tensors beyond the file", {.add_tensors = 100000}, BASE_ERR_INPUT, "number of tensors"},
    {"more keys", {.add_keys = 1}, BASE_ERR_LIMIT, ""},
    {"many keys", {.add_keys = 1 << 30}, BASE_ERR_LIMIT, "number of keys"},
    {"key twice", {.more_keys = key_twice, .extra_keys = 2}, BASE_ERR_INPUT, "appears twice"},
    {"NUL in key", {MORE(key_with_nul)}, BASE_ERR_INPUT, "NUL"},
    {"empty key", {MORE(key_empty)}, BASE_ERR_INPUT, "is empty"},
    {"long key", {MORE(key_long)}, BASE_ERR_LIMIT, "70000 bytes"},
    {"array of arrays", {MORE(array_of_arrays)}, BASE_ERR_UNSUPPORTED, "array of arrays"},
    {"huge array", {MORE(array_huge)}, BASE_ERR_INPUT, "array of 2305843009213693952"},
    {"huge string array", {MORE(array_huge_strings)}, BASE_ERR_INPUT, "key huge"},
    {"unknown type", {MORE(type_unknown)}, BASE_ERR_INPUT, "type 13"},
    {"huge string", {MORE(string_huge)}, BASE_ERR_LIMIT, "limit 268435456"},
    {"boolean 2", {MORE(bool_two)}, BASE_ERR_INPUT, "boolean of value 2"},
    {"boolean u32", {MORE(add_bos_number)}, BASE_ERR_INPUT, "type u32, want a boolean"},
    {"alignment 3", {.alignment = 3}, BASE_ERR_INPUT, "no power of two"},
    {"alignment huge", {.alignment = 1u << 31}, BASE_ERR_LIMIT, "general.alignment"},
    {"alignment string", {MORE(alignment_string)}, BASE_ERR_INPUT, "general.alignment"},
    {"alignment 0", {.alignment = (uint64_t)1 << 32}, BASE_ERR_INPUT, "general.alignment is 0"},
    {"architecture", {.arch = "mamba"}, BASE_ERR_UNSUPPORTED, "bitnet, bitnet-b1.58"},
    {"no architecture", {.skip_key = "general.architecture"}, BASE_ERR_INPUT, "is missing"},
    {"no width", {.skip_key = "embedding_length"}, BASE_ERR_INPUT, ARCH "embedding_length is miss"},
    {"no layers", {.skip_key = "block_count"}, BASE_ERR_INPUT, ARCH "block_count is missing"},
    {"no heads", {.skip_key = "attention.head_count"}, BASE_ERR_INPUT, "head_count is missing"},
    {"no eps", {.skip_key = EPS}, BASE_ERR_INPUT, EPS " is missing"},
    {"eps string", {.skip_key = EPS, MORE(eps_string)}, BASE_ERR_INPUT, "of type string"},
    {"eps NaN", {.skip_key = EPS, MORE(eps_nan)}, BASE_ERR_INPUT, "nan"},
    {"eps -1", {.skip_key = EPS, MORE(eps_negative)}, BASE_ERR_INPUT, "epsilon is -1"},
    {"width f32",
     {.skip_key = "embedding_length", MORE(width_float)},
     BASE_ERR_INPUT,
     "of type f32"},
    {"0 layers",
     {.skip_key = "block_count", MORE(layers_zero)},
     BASE_ERR_INPUT,
     "block_count is 0"},
    {"2^32 layers", {.skip_key = "block_count", MORE(layers_many)}, BASE_ERR_LIMIT, "limit 1024"},
    {"-1 layers", {.skip_key = "block_count", MORE(layers_negative)}, BASE_ERR_INPUT, "is -1"},
    {"3 layers",
     {.skip_key = "block_count", MORE(layers_three)},
     BASE_ERR_INPUT,
     "blk.2.attn_norm"},
    {"short array",
     {.skip_key = "attention.head_count", MORE(heads_array_short)},
     BASE_ERR_INPUT,
     "1 elements for 2 layers"},
    {"heads strings",
     {.skip_key = "attention.head_count", MORE(heads_array_strings)},
     BASE_ERR_INPUT,
     "array of string"},
    {"kv heads",
     {.skip_key = "attention.head_count_kv", MORE(kv_heads_indivisible)},
     BASE_ERR_INPUT,
     "2 heads and 3 KV heads"},
    {"ffn",
     {.skip_key = "feed_forward_length", MORE(ffn_wrong)},
     BASE_ERR_INPUT,
     "ffn_gate has 256"},
    {"head dim", {MORE(head_dim_wrong)}, BASE_ERR_INPUT, "attn_q has 256 rows"},
    {"value dim", {MORE(head_dim_values)}, BASE_ERR_UNSUPPORTED, "value_length is 64"},
    {"rope odd", {MORE(rope_odd)}, BASE_ERR_INPUT, "3 rotated"},
    {"rope wide", {MORE(rope_wide)}, BASE_ERR_INPUT, "130 rotated"},
    {"rope longrope", {MORE(rope_long)}, BASE_ERR_UNSUPPORTED, "'longrope'"},
    {"rope base", {MORE(rope_base_zero)}, BASE_ERR_INPUT, "base is 0"},
    {"vocab",
     {.skip_key = "vocab_size", MORE(vocab_size_wrong)},
     BASE_ERR_INPUT,
     "vocab_size is 261"},
    {"tokenizer",
     {.skip_key = "tokenizer.ggml.model", MORE(tokenizer_odd)},
     BASE_ERR_UNSUPPORTED,
     "'rwkv'"},
    {"no tokens", {.skip_key = "tokenizer.ggml.tokens"}, BASE_ERR_INPUT, "tokens is missing"},
    {"many tokens",
     {.skip_key = "tokenizer.ggml.tokens", MORE(tokens_many)},
     BASE_ERR_INPUT,
     "for 263 tokens"},
    {"0 tokens",
     {.skip_key = "tokenizer.ggml.tokens", MORE(tokens_none)},
     BASE_ERR_INPUT,
     "tokens is empty"},
    {"numbers as tokens",
     {.skip_key = "tokenizer.ggml.tokens", MORE(tokens_numbers)},
     BASE_ERR_INPUT,
     "want an array of string"},
    {"no scores", {.skip_key = "tokenizer.ggml.scores"}, BASE_ERR_INPUT, "scores is missing"},
    {"1 score",
     {.skip_key = "tokenizer.ggml.scores", MORE(scores_short)},
     BASE_ERR_INPUT,
     "1 elements for 262"},
    {"NaN scores",
     {.skip_key = "tokenizer.ggml.scores", MORE(scores_nan)},
     BASE_ERR_INPUT,
     "no number"},
    {"odd types",
     {.skip_key = "tokenizer.ggml.token_type", MORE(types_odd)},
     BASE_ERR_INPUT,
     "is 7"},
    {"odd merge", {MORE(merge_without_space)}, BASE_ERR_INPUT, "no pair"},
    {"bos", {MORE(bos_out_of_range)}, BASE_ERR_INPUT, "bos_token_id is 262"},
    {"second of a set", {.more_keys = split_second, .extra_keys = 2}, BASE_ERR_INPUT, "the first"},
    {"set without name", {MORE(split_unnamed)}, BASE_ERR_INPUT, "00001-of-00002"},
    {"no embedding",
     {.skip_tensor = "token_embd.weight"},
     BASE_ERR_INPUT,
     "token_embd.weight is miss"},
    {"no q", {.skip_tensor = Q}, BASE_ERR_INPUT, Q " is missing"},
    {"no sub-norm", {.skip_tensor = "blk.0.ffn_sub_norm.weight"}, BASE_ERR_INPUT, "is missing"},
    {"type 36", {.tensor_type = Q, .type = 36}, BASE_ERR_INPUT, "overlap"},
    {"type 4", {.tensor_type = Q, .type = 4}, BASE_ERR_UNSUPPORTED, "type number 4"},
    {"type 2^31", {.tensor_type = Q, .type = 1u << 31}, BASE_ERR_UNSUPPORTED, "type number 2147"},
    {"type Q4_K", {.tensor_type = "blk.1.ffn_down.weight", .type = 12}, BASE_ERR_INPUT, "is cut"},
    {"type Q2_K", {.tensor_type = Q, .type = 10}, BASE_ERR_INPUT, "overlap"},
    {"type Q1_0", {.tensor_type = Q, .type = 41}, BASE_ERR_UNSUPPORTED, "has type Q1_0"},
    {"norm Q8_0",
     {.tensor_type = "blk.0.attn_norm.weight", .type = 8},
     BASE_ERR_UNSUPPORTED,
     "vector blk.0.attn_norm has type Q8_0"},
    {"rows 0 x 256", {.reshape = Q, .rows = 256, .cols = 0}, BASE_ERR_INPUT, "dimension 0"},
    {"columns 255", {.reshape = Q, .rows = 1, .cols = 255}, BASE_ERR_INPUT, "rows of 255"},
    {"wrap", {.reshape = Q, .rows = 1ull << 40, .cols = 1ull << 40}, BASE_ERR_INPUT, "dimension 1"},
    {"2^62", {.reshape = Q, .rows = 1ull << 31, .cols = 1ull << 31}, BASE_ERR_INPUT, ""},
    {"fewer rows", {.reshape = Q, .rows = 128, .cols = 256}, BASE_ERR_INPUT, "has 128 rows of 256"},
    {"a vector", {.reshape = Q, .rows = 0, .cols = 256}, BASE_ERR_INPUT, "has 1 rows of 256"},
    {"offset +1", {.move = Q, .by = 1}, BASE_ERR_INPUT, "no multiple of the alignment"},
    {"offset -32", {.move = Q, .by = (uint64_t)-32}, BASE_ERR_INPUT, "overlap"},
    {"offset +32", {.move = Q, .by = 32}, BASE_ERR_INPUT, "overlap"},
    {"offset 2^63", {.move = Q, .by = 1ull << 63}, BASE_ERR_INPUT, "beyond any file"},
    {"offset wraps",
     {.move = "token_embd.weight", .by = (uint64_t)-32},
     BASE_ERR_INPUT,
     "beyond any"},
    {"offset 2^40", {.move = Q, .by = 1ull << 40}, BASE_ERR_INPUT, "is cut"},
    {"same name", {.rename = Q, .name = "blk.0.attn_q.weight"}, BASE_ERR_INPUT, "appears twice"},
    {"no name", {.rename = Q, .name = ""}, BASE_ERR_INPUT, "is empty"},
    {"long name", {.rename = Q, .name = NAME_256}, BASE_ERR_LIMIT, "256 bytes, limit 255"},
    {"bias",
     {.rename = "output.weight", .name = "blk.0.attn_q.bias", .untied = true},
     BASE_ERR_INPUT,
     "attn_q.bias has 262 rows"},
    {"scale",
     {.rename = "output.weight", .name = "blk.0.attn_q.scale", .untied = true},
     BASE_ERR_UNSUPPORTED,
     "attn_q.scale has 262 x 256 numbers"},
    {"TL1", {.tensor_type = Q, .type = 38}, BASE_ERR_UNSUPPORTED, "TL1 of bitnet.cpp"},
    {"TL2", {.tensor_type = Q, .type = 39}, BASE_ERR_UNSUPPORTED, "TL2 of bitnet.cpp"},
    {"I8_S", {.tensor_type = Q, .type = 37}, BASE_ERR_UNSUPPORTED, "I8_S of bitnet.cpp"},
    {"MXFP4",
     {.arch = "llama", .tensor_type = "token_embd.weight", .type = 39},
     BASE_ERR_UNSUPPORTED,
     "has type MXFP4; supported are F32"},
    {"NVFP4",
     {.tensor_type = "token_embd.weight", .type = 40},
     BASE_ERR_UNSUPPORTED,
     "has type NVFP4"},
    {"sub-norm of llama",
     {.arch = "llama", .rename = "blk.1.attn_q.bias", .name = "blk.1.attn_sub_norm.weight"},
     BASE_ERR_UNSUPPORTED,
     "sub-norms in this architecture"},
    {"odd bias",
     {.arch = "llama", .rename = "blk.1.attn_q.bias", .name = "blk.1.attn_norm.bias"},
     BASE_ERR_UNSUPPORTED,
     "biases of this kind"},
    {"short bias",
     {.arch = "llama", .reshape = "blk.1.attn_q.bias", .rows = 1, .cols = 64},
     BASE_ERR_INPUT,
     "attn_q.bias has 1 rows of 64"},
    {"odd scale",
     {.arch = "llama", .rename = "blk.0.ffn_up.scale", .name = "output.scale"},
     BASE_ERR_UNSUPPORTED,
     "scales of this kind"},
    {"I2_S of few weights",
     {.i2s = true, .reshape = Q, .rows = 3, .cols = 255},
     BASE_ERR_INPUT,
     "I2_S stores blocks of 4"},
    {"I2_S of odd rows",
     {.i2s = true, .reshape = Q, .rows = 256, .cols = 192},
     BASE_ERR_INPUT,
     "--i2s-layout"},
    {"unknown tensor of a layer",
     {.rename = "output.weight", .name = "blk.0.attn_q_norm.weight", .untied = true},
     BASE_ERR_UNSUPPORTED,
     "blk.0.attn_q_norm.weight does not belong to architecture bitnet with 2 layers"},
    {"a layer too many",
     {.rename = "output.weight", .name = "blk.2.attn_norm.weight", .untied = true},
     BASE_ERR_UNSUPPORTED,
     "blk.2.attn_norm.weight does not belong"},
    {"rope factors",
     {.rename = "output.weight", .name = "rope_freqs.weight", .untied = true},
     BASE_ERR_INPUT,
     "rope_freqs.weight"},
};

static void each_damage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        base_err_t    err  = {0};
        build_t       b    = mini_model(&damages[i].knobs, NULL);
        uint64_t      from = base_clock_us();
        base_status_t st   = mini_open_in_place(b.data, b.used, false, &err);
        if (st != damages[i].status || strstr(err.text, damages[i].text) == NULL)
            fail_msg("%s: status %s, text '%s', want %s and '%s'", damages[i].what,
                     base_status_name(st), err.text, base_status_name(damages[i].status),
                     damages[i].text);
        check_error(st, &err, damages[i].what, 0);
        assert_true(base_clock_us() - from < 1000000);
        free(b.data);
    }
}

/* Sound, if unusual. */
static void each_variant(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        knobs_t     knobs;
    } variants[] = {
        {"version 2", {.version = 2}},
        {"architecture bitnet-b1.58", {.arch = "bitnet-b1.58"}},
        {"architecture bitnet-25", {.arch = "bitnet-25"}},
        {"own head", {.untied = true}},
        {"unknown tensor", {.rename = "output.weight", .name = "odd\033[31m", .untied = true}},
        {"angles of old files",
         {.rename = "output.weight", .name = "blk.0.attn_rot_embd.weight", .untied = true}},
        {"alignment 1", {.alignment = 1}},
        {"alignment 4096", {.alignment = 4096}},
        {"no tokenizer", {.skip_key = "tokenizer.ggml.model"}},
        {"no types", {.skip_key = "tokenizer.ggml.token_type"}},
        {"no vocab_size", {.skip_key = "vocab_size"}},
    };
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        base_err_t err = {0};
        build_t    b   = mini_model(&variants[i].knobs, NULL);
        if (mini_open_in_place(b.data, b.used, false, &err) != BASE_OK)
            fail_msg("%s: %s", variants[i].what, err.text);
        free(b.data);
    }
}

/* Many keys, each of them sound: the check for duplicates must not take the square of their
 * number. */
static void many_keys(build_t *b)
{
    char key[32];
    for (int i = 0; i < 60000; i++) {
        snprintf(key, sizeof(key), "key.%05d", i * 7919 % 60000);
        build_key_u32(b, key, 1);
    }
}

static void keys_in_time(void **state)
{
    (void)state;
    base_err_t     err  = {0};
    const knobs_t  many = {.more_keys = many_keys, .extra_keys = 60000};
    build_t        b    = mini_model(&many, NULL);
    const uint64_t from = base_clock_us();
    if (mini_open_in_place(b.data, b.used, false, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_true(base_clock_us() - from < 2000000);
    free(b.data);
}

/* What people give by mistake. */
static void other_files(void **state)
{
    (void)state;
    static const char *const heads[] = {"PK\003\004 zip",
                                        "<!DOCTYPE html>",
                                        "version https://git-lfs",
                                        "tjgg old",
                                        "FUGG\3\0\0\0",
                                        "plain text",
                                        "GGU",
                                        "",
                                        "GGUF"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        base_err_t err = {0};
        check_error(mini_open(heads[i], strlen(heads[i]), false, &err), &err, heads[i], 0);
        check_error(mini_open(heads[i], strlen(heads[i]), true, &err), &err, heads[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound),        cmocka_unit_test(cut),
        cmocka_unit_test(each_byte),    cmocka_unit_test(each_word),
        cmocka_unit_test(each_damage),  cmocka_unit_test(each_variant),
        cmocka_unit_test(keys_in_time), cmocka_unit_test(other_files),
    };
    base_log_setup(BASE_LOG_ERROR, false, -1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
