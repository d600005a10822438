/* Assignments on the wire: round trips for every rank, and bytes that mean harm. */
#include <math.h>
#include <sys/resource.h>

#include "partition/assignment_wire.h"
#include "tests/partition/fixture.h"
#include "tests/support/cases.h"

static const char *paths[] = {"/models/a-00001-of-00002.gguf", "/models/a-00002-of-00002.gguf"};

/* A sound assignment over borrowed parts. */
static part_assignment_t make(model_desc_t desc, const char *layout, uint32_t n_ranks,
                              uint32_t rank)
{
    part_wish_t       wish = {.n_ranks = n_ranks, .layout = layout};
    base_err_t        err  = {0};
    part_assignment_t a    = {.rank      = rank,
                              .desc      = desc,
                              .n_paths   = 2,
                              .paths     = paths,
                              .n_ctx     = 4096,
                              .n_seq     = 3,
                              .type_k    = MODEL_F16,
                              .type_v    = MODEL_F32,
                              .n_batch   = 512,
                              .n_out_max = 512,
                              .n_threads = 3,
                              .screen    = true,
                              .pack      = "t3",
                              .cpu       = "avx2"};
    if (part_plan_make(&wish, &a.desc, &a.plan, &err) != BASE_OK) fail_msg("%s", err.text);
    return a;
}

static void tensors_equal(const model_tensor_t *a, const model_tensor_t *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->file, b->file);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_cols, b->n_cols);
    assert_memory_equal(&a->scale, &b->scale, sizeof(a->scale));
    assert_memory_equal(&a->out_scale, &b->out_scale, sizeof(a->out_scale));
    assert_int_equal(a->online, b->online);
    assert_int_equal(a->unit, b->unit);
}

static void descs_equal(const model_desc_t *a, const model_desc_t *b, part_range_t own)
{
    assert_string_equal(a->arch, b->arch);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->rope_dims, b->rope_dims);
    assert_int_equal(a->n_vocab, b->n_vocab);
    assert_int_equal(a->context, b->context);
    assert_memory_equal(&a->norm_eps, &b->norm_eps, sizeof(a->norm_eps));
    assert_true(a->sub_norm_eps == b->sub_norm_eps && a->sub_norm_eps != a->norm_eps);
    assert_memory_equal(&a->rope_base, &b->rope_base, sizeof(a->rope_base));
    assert_memory_equal(&a->rope_scale, &b->rope_scale, sizeof(a->rope_scale));
    assert_memory_equal(a->rope_freq, b->rope_freq, sizeof(a->rope_freq));
    assert_memory_equal(&a->rope_magnitude, &b->rope_magnitude, sizeof(a->rope_magnitude));
    assert_int_equal(a->act, b->act);
    assert_int_equal(a->rope, b->rope);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->n_params, b->n_params);
    tensors_equal(&a->embed, &b->embed);
    tensors_equal(&a->out_norm, &b->out_norm);
    tensors_equal(&a->head, &b->head);
    for (uint32_t i = 0; i < a->n_layers; i++) {
        bool                 here = i >= own.begin && i < own.end;
        const model_layer_t  none = {0};
        const model_layer_t *x = here ? &a->layers[i] : &none, *y = &b->layers[i];
        assert_int_equal(x->n_heads, y->n_heads);
        assert_int_equal(x->n_kv_heads, y->n_kv_heads);
        assert_int_equal(x->ffn, y->ffn);
        for (uint32_t t = 0; t < MODEL_LAYER_TENSOR_COUNT; t++) tensors_equal(&x->t[t], &y->t[t]);
    }
}

static void round_trip(const part_assignment_t *a)
{
    uint8_t          *bytes = NULL;
    size_t            n     = 0;
    part_assignment_t b     = {0};
    base_err_t        err   = {0};
    assert_int_equal(part_assignment_pack(a, &bytes, &n, &err), BASE_OK);
    if (part_assignment_unpack(bytes, n, &b, &err) != BASE_OK) fail_msg("%s", err.text);
    free(bytes);
    assert_int_equal(b.rank, a->rank);
    assert_int_equal(b.plan.stages, a->plan.stages);
    assert_int_equal(b.plan.shards, a->plan.shards);
    assert_memory_equal(b.plan.stage_layer, a->plan.stage_layer,
                        (a->plan.stages + 1) * sizeof(uint32_t));
    assert_memory_equal(b.plan.shard_weight, a->plan.shard_weight,
                        a->plan.shards * sizeof(uint32_t));
    descs_equal(&a->desc, &b.desc, part_stage_layers(&a->plan, a->rank / a->plan.shards));
    assert_int_equal(b.n_paths, a->n_paths);
    for (uint32_t i = 0; i < a->n_paths; i++) assert_string_equal(b.paths[i], a->paths[i]);
    assert_int_equal(b.synth_seed, a->synth_seed);
    assert_int_equal(b.n_ctx, a->n_ctx);
    assert_int_equal(b.n_seq, a->n_seq);
    assert_int_equal(b.type_k, a->type_k);
    assert_int_equal(b.type_v, a->type_v);
    assert_int_equal(b.n_batch, a->n_batch);
    assert_int_equal(b.n_out_max, a->n_out_max);
    assert_int_equal(b.n_threads, a->n_threads);
    assert_int_equal(b.screen, a->screen);
    assert_string_equal(b.pack, a->pack);
    assert_string_equal(b.cpu, a->cpu);
    part_assignment_free(&b);
    part_assignment_free(&b);
}

static void round_trips(void **state)
{
    (void)state;
    const char *layouts[] = {"1x12", "2x6", "3x4", "4x3", "6x2"};
    for (uint32_t untied = 0; untied < 2; untied++) {
        fixture_shape_t shape = fixture_small;
        shape.tied            = untied == 0;
        shape.sub_norms       = untied == 0;
        model_desc_t desc     = fixture_desc(shape);
        desc.head.file        = desc.tied ? 0 : 1;
        for (uint32_t i = 0; i < 5; i++) {
            for (uint32_t rank = 0; rank < 12; rank++) {
                part_assignment_t a = make(desc, layouts[i], 12, rank);
                round_trip(&a);
                part_plan_free(&a.plan);
            }
        }
        free(desc.layers);
    }
}

/* Tensors of all kinds: one scale, a scale behind the product, quantised at load, biases; RoPE. */
static void round_trip_kinds(void **state)
{
    (void)state;
    fixture_shape_t shape = fixture_small;
    uint64_t        at    = 1 << 20;
    shape.ternary         = MODEL_I2_S;
    model_desc_t desc     = fixture_desc(shape);
    desc.rope_freq[3]     = 0.25;
    desc.rope_magnitude   = 1.25;
    for (uint32_t i = 0; i < desc.n_layers; i++) {
        model_layer_t *l               = &desc.layers[i];
        l->t[MODEL_ATTN_Q].scale       = 0.75f;
        l->t[MODEL_FFN_DOWN]           = fixture_tensor(MODEL_BF16, desc.width, l->ffn, &at);
        l->t[MODEL_FFN_UP].bytes       = l->ffn / 4 * desc.width;
        l->t[MODEL_FFN_UP].type        = MODEL_ROWS4;
        l->t[MODEL_FFN_UP].scale       = 3.5f;
        l->t[MODEL_ATTN_Q_BIAS]        = fixture_tensor(MODEL_F16, 1, 20ull * desc.head_dim, &at);
        l->t[MODEL_ATTN_OUT_BIAS]      = fixture_tensor(MODEL_F32, 1, desc.width, &at);
        l->t[MODEL_FFN_DOWN].scale     = i % 2 == 0 ? 0 : 0.5f;
        l->t[MODEL_FFN_DOWN].online    = true;
        l->t[MODEL_FFN_DOWN].unit      = i % 2 != 0;
        l->t[MODEL_ATTN_OUT].out_scale = -2;
    }
    for (uint32_t rank = 0; rank < 6; rank++) {
        part_assignment_t a = make(desc, "3x2", 6, rank);
        round_trip(&a);
        part_plan_free(&a.plan);
    }
    free(desc.layers);
}

static void round_trip_generated(void **state)
{
    (void)state;
    model_desc_t      desc = fixture_desc(fixture_small);
    part_assignment_t a    = make(desc, "1x1", 1, 0);
    a.n_paths              = 0;
    a.paths                = NULL;
    a.synth_seed           = UINT64_MAX;
    a.cpu[0]               = '\0';
    a.n_threads            = 0;
    round_trip(&a);
    part_plan_free(&a.plan);
    free(desc.layers);
}

/* The largest that the limits allow: it packs, and the decoder's budget suffices. */
static void round_trip_largest(void **state)
{
    (void)state;
    fixture_shape_t shape = fixture_small;
    shape.n_layers        = LIMIT_LAYERS;
    model_desc_t desc     = fixture_desc(shape);
    const char **many     = calloc(LIMIT_MODEL_FILES, sizeof(*many));
    char        *longest  = calloc(1, LIMIT_PATH_BYTES);
    assert_true(many != NULL && longest != NULL);
    memset(longest, 'x', LIMIT_PATH_BYTES - 1);
    for (uint32_t i = 0; i < LIMIT_MODEL_FILES; i++) many[i] = longest;
    part_assignment_t a = make(desc, "1x4096", LIMIT_RANKS, 4095);
    a.n_paths           = LIMIT_MODEL_FILES;
    a.paths             = many;
    for (uint32_t i = 0; i < LIMIT_LAYERS; i++)
        desc.layers[i].t[MODEL_FFN_UP].file = LIMIT_MODEL_FILES - 1;
    round_trip(&a);
    part_plan_free(&a.plan);
    free(desc.layers);
    free((void *)many);
    free(longest);
}

/* Unpack an exact heap copy; what is accepted has sound ranges and can be sliced and freed. */
static base_status_t hostile(const uint8_t *bytes, size_t n, const char *piece)
{
    uint8_t          *copy = malloc(n == 0 ? 1 : n);
    part_assignment_t a    = {0};
    base_err_t        err  = {0};
    assert_non_null(copy);
    if (n > 0) memcpy(copy, bytes, n);
    base_status_t st = part_assignment_unpack(copy, n, &a, &err);
    free(copy);
    if (st != BASE_OK) {
        assert_true(err.text[0] != '\0' && a.desc.layers == NULL && a.plan.stage_layer == NULL);
        if (piece != NULL && strstr(err.text, piece) == NULL)
            fail_msg("'%s' lacks '%s'", err.text, piece);
        return st;
    }
    assert_true(a.rank < a.plan.stages * a.plan.shards && a.plan.stages <= a.desc.n_layers);
    part_range_t own = part_stage_layers(&a.plan, a.rank / a.plan.shards);
    assert_true(own.begin < own.end && own.end <= a.desc.n_layers);
    for (uint32_t i = own.begin; i < own.end; i++) {
        part_slice_t s = part_slice(&a.plan, &a.desc.layers[i], a.rank % a.plan.shards);
        assert_true(s.kv.end <= a.desc.layers[i].n_kv_heads);
    }
    part_memory_t m = part_memory(&a.plan, &a.desc, a.rank,
                                  &(part_sizes_t){.ternary_bits = 2,
                                                  .n_ctx        = a.n_ctx,
                                                  .n_seq        = a.n_seq,
                                                  .n_batch      = a.n_batch,
                                                  .n_out        = a.n_out_max,
                                                  .screen       = a.screen});
    assert_true(m.total > 0);
    part_assignment_free(&a);
    return BASE_OK;
}

static void hostile_bytes(void **state)
{
    (void)state;
    fixture_shape_t shape   = fixture_small;
    shape.n_layers          = 3;
    model_desc_t      desc  = fixture_desc(shape);
    part_assignment_t a     = make(desc, "3x2", 6, 3);
    uint8_t          *bytes = NULL, *whole = NULL;
    size_t            n    = 0;
    uint64_t          seed = 3;
    assert_int_equal(part_assignment_pack(&a, &whole, &n, NULL), BASE_OK);
    assert_int_equal(part_assignment_pack(&a, &bytes, &n, NULL), BASE_OK);
    for (size_t cut = 0; cut < n; cut++) (void)hostile(whole, cut, NULL);
    for (size_t at = 0; at < n; at++) {
        for (uint32_t value = 0; value < 256; value++) {
            bytes[at] = (uint8_t)value;
            (void)hostile(bytes, n, NULL);
        }
        bytes[at] = whole[at];
    }
    for (uint32_t round = 0; round < cases_of(100000); round++) {
        size_t length = round % 2 == 0 ? fixture_random(&seed) % 200 : n;
        if (round % 2 == 0)
            for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)fixture_random(&seed);
        else
            for (uint32_t i = 0; i < 5; i++)
                bytes[fixture_random(&seed) % n] = (uint8_t)fixture_random(&seed);
        (void)hostile(bytes, length, NULL);
        memcpy(bytes, whole, n);
    }
    free(bytes);
    free(whole);
    part_plan_free(&a.plan);
    free(desc.layers);
}

/* Sound bytes of unsound fields: each is refused by name. */

static void refuse(part_assignment_t a, const char *piece)
{
    uint8_t *bytes = NULL;
    size_t   n     = 0;
    assert_int_equal(part_assignment_pack(&a, &bytes, &n, NULL), BASE_OK);
    assert_true(hostile(bytes, n, piece) != BASE_OK);
    free(bytes);
}

static void wrong_fields(void **state)
{
    (void)state;
    model_desc_t      desc = fixture_desc(fixture_small);
    part_assignment_t good = make(desc, "2x3", 6, 4), a = good;

    a.n_ctx = 0, refuse(a, "n_ctx"), a = good;
    a.n_ctx = LIMIT_CONTEXT + 1, refuse(a, "n_ctx"), a = good;
    a.type_k = MODEL_NONE, refuse(a, "type_k"), a = good;
    a.type_v = MODEL_BF16, refuse(a, "type_v"), a = good;
    a.n_seq = 0, refuse(a, "n_seq"), a = good;
    a.n_seq = LIMIT_SEQUENCES + 1, refuse(a, "n_seq"), a = good;
    a.n_ctx = LIMIT_CONTEXT, a.n_seq = LIMIT_SEQUENCES, refuse(a, "n_ctx * n_seq"), a = good;
    a.n_batch = 0, refuse(a, "n_batch"), a = good;
    a.n_batch = LIMIT_BATCH + 1, refuse(a, "n_batch"), a = good;
    a.n_out_max = UINT32_MAX, refuse(a, "n_out_max"), a = good;
    a.n_threads = LIMIT_THREADS + 1, refuse(a, "n_threads"), a = good;
    a.synth_seed = 0, strcpy(a.pack, "../t2"), refuse(a, "pack"), a = good;
    strcpy(a.cpu, "AVX2"), refuse(a, "cpu"), a = good;
    a.desc.n_layers = LIMIT_LAYERS + 1, refuse(a, "n_layers"), a = good;
    a.desc.n_layers = 7, refuse(a, "stage_layer"), a = good;
    a.desc.width = 0, refuse(a, "width"), a = good;
    a.desc.width = LIMIT_WIDTH + 1, refuse(a, "width"), a = good;
    a.desc.head_dim = 0, refuse(a, "head_dim"), a = good;
    a.desc.rope_dims = 65, refuse(a, "rope_dims"), a = good;
    a.desc.n_vocab = UINT32_MAX, refuse(a, "n_vocab"), a = good;
    a.desc.norm_eps = -1, refuse(a, "norm_eps"), a = good;
    a.desc.rope_base = (double)INFINITY, refuse(a, "rope_base"), a = good;
    a.desc.rope_scale = (double)NAN, refuse(a, "rope_scale"), a = good;
    a.desc.rope_magnitude = 0, refuse(a, "magnitude"), a = good;
    a.desc.rope_freq[31] = (double)NAN, refuse(a, "frequency 31"), a = good;
    a.desc.rope_freq[0] = 65, refuse(a, "frequency 0"), a = good;
    a.desc.act = (model_act_t)2, refuse(a, "act"), a = good;
    a.desc.rope = (model_rope_t)9, refuse(a, "rope"), a = good;
    a.desc.embed.type = MODEL_TYPE_COUNT, refuse(a, "embed"), a = good;
    a.desc.head.file = 2, refuse(a, "file"), a = good;

    model_layer_t *last = &desc.layers[5], kept = *last;
    last->n_kv_heads = 3, refuse(a, "20 heads"), *last = kept;
    last->n_kv_heads = 0, refuse(a, "20 heads"), *last = kept;
    last->n_heads = LIMIT_HEADS + 1, refuse(a, "n_heads"), *last = kept;
    last->ffn = LIMIT_FFN + 1, refuse(a, "ffn"), *last = kept;
    last->t[2].type = (model_type_t)200, refuse(a, "tensor.type"), *last = kept;
    last->t[2].file = 77, refuse(a, "file"), *last = kept;
    last->t[2].scale = 1, refuse(a, "scale of its own"), *last = kept;
    last->t[2].scale = -1, refuse(a, "scale"), *last = kept;
    last->t[2].out_scale = INFINITY, refuse(a, "output scale"), *last = kept;
    last->t[2].online = true, refuse(a, "ternary at load"), *last = kept;
    last->t[2].unit = true, refuse(a, "without a scale"), *last = kept;
    last->t[MODEL_ATTN_Q].n_rows--, refuse(a, NULL), *last      = kept; /* model_desc_check */

    good.plan.shard_weight[1] = 0, refuse(a, "shard_weight"), good.plan.shard_weight[1] = 1;
    good.plan.shard_weight[1] = UINT32_MAX, refuse(a, "shard_weight"),
    good.plan.shard_weight[1] = 1;
    good.plan.stage_layer[0] = 1, refuse(a, "stage_layer[0]"), good.plan.stage_layer[0] = 0;
    round_trip(&good);
    part_plan_free(&good.plan);
    free(desc.layers);
}

/* A few bytes must not make the decoder take gigabytes: millions of empty layers and tensors. */
static void hostile_amplification(void **state)
{
    (void)state;
    const size_t  n     = PART_ASSIGNMENT_MAX_BYTES;
    uint8_t      *bytes = calloc(1, n + 1);
    struct rusage before, after;
    assert_non_null(bytes);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    const uint8_t tags[][2] = {
        {0x9a, 0x01}, {0x22, 0x00}, {0x2a, 0x00}, {0x22, 0x02}, {0x78, 0x01}};
    for (uint32_t kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i + 1 < n; i += 2) {
            bytes[i]     = tags[kind][0];
            bytes[i + 1] = tags[kind][1];
        }
        assert_int_equal(hostile(bytes, n, "assignment"), BASE_ERR_PEER);
        assert_int_equal(hostile(bytes, n + 1, "assignment"), BASE_ERR_PEER);
    }
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 96 << 10); /* KiB */
#endif
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),           cmocka_unit_test(round_trip_generated),
        cmocka_unit_test(round_trip_largest),    cmocka_unit_test(round_trip_kinds),
        cmocka_unit_test(hostile_bytes),         cmocka_unit_test(wrong_fields),
        cmocka_unit_test(hostile_amplification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
