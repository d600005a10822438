/* The head of a file of packed weights: what is written is read, what is damaged is refused. */
#include "partition/shard_file.h"

#include "model/bytes.h"
#include "tests/partition/fixture.h"

enum { PIECES = 3 };

/* Three pieces of 2, 1 and 3 units. */
static void make(part_shard_head_t *h, part_shard_piece_t *pieces, uint64_t *hashes)
{
    pieces[0] = (part_shard_piece_t){.layer      = 2,
                                     .what       = MODEL_ATTN_Q,
                                     .form       = PART_SHARD_T2,
                                     .type       = MODEL_TQ2_0,
                                     .row0       = 16,
                                     .rows       = 32,
                                     .cols       = 48,
                                     .bytes      = 2 * 192,
                                     .unit_bytes = 192,
                                     .scale      = 0.75f};
    pieces[1] = (part_shard_piece_t){.layer      = 2,
                                     .what       = MODEL_ATTN_NORM,
                                     .form       = PART_SHARD_FLOATS,
                                     .type       = MODEL_F32,
                                     .rows       = 1,
                                     .cols       = 25,
                                     .bytes      = 100,
                                     .unit_bytes = 100};
    pieces[2] = (part_shard_piece_t){.layer      = PART_SHARD_NO_LAYER,
                                     .what       = PART_SHARD_HEAD,
                                     .form       = PART_SHARD_STORED,
                                     .type       = MODEL_F16,
                                     .row0       = 64,
                                     .rows       = 40,
                                     .cols       = 25,
                                     .bytes      = 40 * 50,
                                     .unit_bytes = 16 * 50};
    for (uint64_t i = 0; i < 6; i++) hashes[i] = 0x1111111111111111u * (i + 1);
    *h = (part_shard_head_t){
        .model = {1, 2}, .slice = {3, 4}, .n_pieces = PIECES, .pieces = pieces, .hashes = hashes};
    assert_int_equal(part_shard_lay_out(h, NULL), BASE_OK);
}

static uint8_t *packed(part_shard_head_t *h)
{
    static part_shard_piece_t pieces[PIECES];
    static uint64_t           hashes[6];
    make(h, pieces, hashes);
    uint8_t *bytes = malloc(h->data_offset);
    assert_non_null(bytes);
    part_shard_head_pack(h, bytes);
    return bytes;
}

static base_status_t parse(const uint8_t *bytes, uint64_t n, uint64_t file_bytes,
                           part_shard_head_t *out)
{
    base_err_t    err  = {0};
    uint64_t      want = 0;
    base_status_t st   = part_shard_head_bytes(bytes, file_bytes, &want, &err);
    if (st == BASE_OK && want != n) st = BASE_ERR_INPUT; /* a caller reads as many as it is told */
    if (st == BASE_OK) st = part_shard_head_parse(bytes, n, file_bytes, out, &err);
    if (st != BASE_OK && err.code != BASE_OK) assert_true(err.text[0] != '\0');
    return st;
}

/* Places by hand: 128 + 3 * 72 + 6 * 8 = 392 bytes of head end at 4096; pieces of 384, 100 and
 * 2000 bytes follow at multiples of 64. */
static void layout(void **state)
{
    (void)state;
    part_shard_head_t h;
    uint8_t          *bytes = packed(&h);
    assert_int_equal(h.data_offset, 4096);
    assert_int_equal(h.n_hashes, 6);
    assert_int_equal(h.pieces[0].offset, 4096);
    assert_int_equal(h.pieces[1].offset, 4096 + 384);
    assert_int_equal(h.pieces[2].offset, 4096 + 384 + 128);
    assert_int_equal(h.file_bytes, 4096 + 384 + 128 + 2048);
    assert_int_equal(h.pieces[1].first_hash, 2);
    assert_int_equal(h.pieces[2].first_hash, 3);
    /* docs/FORMATS.md */
    assert_memory_equal(bytes, "TRISHARD", 8);
    assert_int_equal(model_load_u32(bytes + 16), PIECES);
    assert_int_equal(model_load_u64(bytes + 32), h.file_bytes);
    assert_int_equal(model_load_u32(bytes + 128), 2);
    assert_int_equal(model_load_u32(bytes + 128 + 2 * 72), UINT32_MAX);
    assert_int_equal(model_load_u64(bytes + 128 + 3 * 72 + 8), 0x2222222222222222u);
    free(bytes);
}

static void round_trip(void **state)
{
    (void)state;
    part_shard_head_t h, again = {0};
    uint8_t          *bytes = packed(&h);
    assert_int_equal(parse(bytes, h.data_offset, h.file_bytes, &again), BASE_OK);
    assert_int_equal(again.model.high, 1);
    assert_int_equal(again.model.low, 2);
    assert_int_equal(again.slice.high, 3);
    assert_int_equal(again.slice.low, 4);
    assert_int_equal(again.n_pieces, PIECES);
    assert_int_equal(again.n_hashes, 6);
    for (int i = 0; i < PIECES; i++) {
        const part_shard_piece_t *a = &again.pieces[i], *b = &h.pieces[i];
        assert_int_equal(a->layer, b->layer);
        assert_int_equal(a->what, b->what);
        assert_int_equal(a->form, b->form);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->row0, b->row0);
        assert_int_equal(a->rows, b->rows);
        assert_int_equal(a->col0, b->col0);
        assert_int_equal(a->cols, b->cols);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(a->unit_bytes, b->unit_bytes);
        assert_true(a->scale == b->scale);
        assert_int_equal(a->offset, b->offset);
        assert_int_equal(a->first_hash, b->first_hash);
    }
    assert_memory_equal(again.hashes, h.hashes, 6 * 8);
    part_shard_head_free(&again);
    free(bytes);
}

/* Every byte of header, directory, hashes and the zeros behind them. */
static void every_byte_flipped(void **state)
{
    (void)state;
    part_shard_head_t h, again = {0};
    uint8_t          *bytes = packed(&h);
    for (uint64_t i = 0; i < h.data_offset; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(parse(bytes, h.data_offset, h.file_bytes, &again), BASE_ERR_INPUT);
        assert_null(again.pieces);
        bytes[i] ^= 0x10;
    }
    assert_int_equal(parse(bytes, h.data_offset, h.file_bytes, &again), BASE_OK);
    part_shard_head_free(&again);
    free(bytes);
}

static void file_cut(void **state)
{
    (void)state;
    part_shard_head_t h;
    uint8_t          *bytes = packed(&h);
    uint64_t          n     = 0;
    for (uint64_t size = 0; size < h.file_bytes; size++)
        assert_int_equal(part_shard_head_bytes(bytes, size, &n, NULL), BASE_ERR_INPUT);
    assert_int_equal(part_shard_head_bytes(bytes, h.file_bytes + 1, &n, NULL), BASE_ERR_INPUT);
    free(bytes);
}

/* Heads whose hash is right, but which make no sense. */
static void sound_hash_bad_pieces(void **state)
{
    (void)state;
    for (int what = 0; what < 12; what++) {
        part_shard_head_t h, again = {0};
        free(packed(&h)); /* makes h */
        part_shard_piece_t *p = &h.pieces[what % 2 == 0 ? 0 : 2];
        switch (what) {
        case 0: p->offset = 0; break;
        case 1: p->offset = UINT64_MAX - 63; break;
        case 2: p->bytes = UINT64_MAX; break;
        case 3: p->bytes += 64; break;
        case 4: p->unit_bytes = 0; break;
        case 5: p->unit_bytes = 1; break;
        case 6: p->first_hash = UINT64_MAX; break;
        case 7: p->rows = UINT32_MAX; break;
        case 8: p->layer = LIMIT_LAYERS; break;
        case 9: p->layer = -2; break;
        case 10: p->what = MODEL_LAYER_TENSOR_COUNT; break;
        default: p->form = PART_SHARD_FORMS; break;
        }
        uint8_t *bytes = malloc(h.data_offset);
        assert_non_null(bytes);
        part_shard_head_pack(&h, bytes);
        assert_int_equal(parse(bytes, h.data_offset, h.file_bytes, &again), BASE_ERR_INPUT);
        free(bytes);
    }
}

static void limits(void **state)
{
    (void)state;
    part_shard_piece_t piece = {.layer = 0, .bytes = LIMIT_SHARD_UNITS + 1ull, .unit_bytes = 1};
    part_shard_head_t  h     = {.n_pieces = 1, .pieces = &piece};
    assert_int_equal(part_shard_lay_out(&h, NULL), BASE_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),   cmocka_unit_test(round_trip),
        cmocka_unit_test(file_cut), cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(limits),   cmocka_unit_test(sound_hash_bad_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
