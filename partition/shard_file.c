/* partition/shard_file.c: the head of a file of packed weights, to and from bytes. */
#include "partition/shard_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "model/bytes.h"

/* Places of the header's fields (docs/FORMATS.md). */
enum {
    AT_MAGIC      = 0,
    AT_VERSION    = 8,
    AT_PACKING    = 12,
    AT_PIECES     = 16,
    AT_HASHES     = 20,
    AT_DATA       = 24,
    AT_FILE_BYTES = 32,
    AT_MODEL      = 40,
    AT_SLICE      = 56,
    AT_ZEROS      = 72,
    AT_HASH       = 112, /* of all that is before it, and of all behind it up to the data */
    PIECE_BYTES   = 72,
    HASH_BYTES    = 8, /* bytes of a unit's hash */
};
_Static_assert(AT_HASH + 16 == PART_SHARD_HEAD_BYTES, "the hash ends the header");

static const char MAGIC[8] = {'T', 'R', 'I', 'S', 'H', 'A', 'R', 'D'};

static uint64_t head_bytes_of(uint64_t n_pieces, uint64_t n_hashes)
{
    return base_round_up(PART_SHARD_HEAD_BYTES + n_pieces * PIECE_BYTES + n_hashes * HASH_BYTES,
                         PART_SHARD_PAGE);
}

base_status_t part_shard_lay_out(part_shard_head_t *head, base_err_t *err)
{
    uint64_t units = 0;

    for (uint32_t i = 0; i < head->n_pieces; i++) {
        base_assert(head->pieces[i].bytes == 0 || head->pieces[i].unit_bytes > 0);
        head->pieces[i].first_hash = units;
        units += part_shard_units(&head->pieces[i]);
    }
    if (head->n_pieces > LIMIT_SHARD_PIECES || units > LIMIT_SHARD_UNITS)
        return base_fail(err, BASE_ERR_LIMIT,
                         "packed weights of %" PRIu32 " pieces in %" PRIu64
                         " units, limits %d and %d",
                         head->n_pieces, units, LIMIT_SHARD_PIECES, LIMIT_SHARD_UNITS);
    head->n_hashes    = (uint32_t)units;
    head->data_offset = head_bytes_of(head->n_pieces, units);
    uint64_t at       = head->data_offset;
    for (uint32_t i = 0; i < head->n_pieces; i++) {
        head->pieces[i].offset = at;
        at                     = base_round_up(at + head->pieces[i].bytes, PART_SHARD_ALIGN);
    }
    head->file_bytes = at;
    return BASE_OK;
}

/* --- to bytes --- */

static void hash_store(uint8_t *out, model_hash_t h)
{
    model_store_u64(out, h.low);
    model_store_u64(out + 8, h.high);
}

static model_hash_t hash_load(const uint8_t *p)
{
    return (model_hash_t){.low = model_load_u64(p), .high = model_load_u64(p + 8)};
}

static model_hash_t head_hash(const uint8_t *bytes, uint64_t n)
{
    const model_hash_t parts[2] = {
        model_bytes_hash(bytes, AT_HASH),
        model_bytes_hash(bytes + PART_SHARD_HEAD_BYTES, (size_t)n - PART_SHARD_HEAD_BYTES)};
    return model_hash_join(parts, 2);
}

static void piece_store(const part_shard_piece_t *p, uint8_t *out)
{
    model_store_u32(out, (uint32_t)p->layer);
    model_store_u32(out + 4, p->what);
    model_store_u32(out + 8, (uint32_t)p->form);
    model_store_u32(out + 12, (uint32_t)p->type);
    model_store_u32(out + 16, p->row0);
    model_store_u32(out + 20, p->rows);
    model_store_u32(out + 24, p->col0);
    model_store_u32(out + 28, p->cols);
    model_store_u64(out + 32, p->bytes);
    model_store_u32(out + 40, p->unit_bytes);
    model_store_u32(out + 44, model_bits_of_float(p->scale));
    model_store_u64(out + 48, p->offset);
    model_store_u64(out + 56, p->first_hash);
    model_store_u64(out + 64, 0);
}

void part_shard_head_pack(const part_shard_head_t *head, uint8_t *out)
{
    uint8_t *at = out + PART_SHARD_HEAD_BYTES;

    base_assert(head->data_offset == head_bytes_of(head->n_pieces, head->n_hashes));
    memset(out, 0, (size_t)head->data_offset);
    memcpy(out + AT_MAGIC, MAGIC, sizeof(MAGIC));
    model_store_u32(out + AT_VERSION, PART_SHARD_VERSION);
    model_store_u32(out + AT_PACKING, PART_SHARD_PACKING);
    model_store_u32(out + AT_PIECES, head->n_pieces);
    model_store_u32(out + AT_HASHES, head->n_hashes);
    model_store_u64(out + AT_DATA, head->data_offset);
    model_store_u64(out + AT_FILE_BYTES, head->file_bytes);
    hash_store(out + AT_MODEL, head->model);
    hash_store(out + AT_SLICE, head->slice);
    for (uint32_t i = 0; i < head->n_pieces; i++, at += PIECE_BYTES)
        piece_store(&head->pieces[i], at);
    for (uint32_t i = 0; i < head->n_hashes; i++, at += HASH_BYTES)
        model_store_u64(at, head->hashes[i]);
    hash_store(out + AT_HASH, head_hash(out, head->data_offset));
}

/* --- from bytes --- */

base_status_t part_shard_head_bytes(const uint8_t *bytes, uint64_t file_bytes, uint64_t *head_bytes,
                                    base_err_t *err)
{
    const uint32_t version = model_load_u32(bytes + AT_VERSION);
    const uint32_t packing = model_load_u32(bytes + AT_PACKING);
    const uint64_t pieces  = model_load_u32(bytes + AT_PIECES);
    const uint64_t hashes  = model_load_u32(bytes + AT_HASHES);
    const uint64_t said    = model_load_u64(bytes + AT_FILE_BYTES);

    if (memcmp(bytes + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0)
        return base_fail(err, BASE_ERR_INPUT, "does not begin as a file of packed weights does");
    if (version != PART_SHARD_VERSION || packing != PART_SHARD_PACKING)
        return base_fail(err, BASE_ERR_INPUT,
                         "is of version %" PRIu32 " with packing %" PRIu32
                         ", this program writes %d and %d",
                         version, packing, PART_SHARD_VERSION, PART_SHARD_PACKING);
    if (pieces > LIMIT_SHARD_PIECES || hashes > LIMIT_SHARD_UNITS)
        return base_fail(err, BASE_ERR_INPUT,
                         "claims %" PRIu64 " pieces in %" PRIu64 " units, limits %d and %d", pieces,
                         hashes, LIMIT_SHARD_PIECES, LIMIT_SHARD_UNITS);
    if (said != file_bytes)
        return base_fail(err, BASE_ERR_INPUT, "has %" PRIu64 " bytes and claims %" PRIu64,
                         file_bytes, said);
    *head_bytes = head_bytes_of(pieces, hashes);
    if (*head_bytes > file_bytes || model_load_u64(bytes + AT_DATA) != *head_bytes)
        return base_fail(err, BASE_ERR_INPUT,
                         "has %" PRIu64 " bytes and a directory of %" PRIu64
                         "; its data are said to begin at %" PRIu64,
                         file_bytes, *head_bytes, model_load_u64(bytes + AT_DATA));
    return BASE_OK;
}

static bool piece_load(const uint8_t *at, part_shard_piece_t *p)
{
    const uint32_t form = model_load_u32(at + 8);
    const uint32_t type = model_load_u32(at + 12);

    *p = (part_shard_piece_t){.layer      = (int32_t)model_load_u32(at),
                              .what       = model_load_u32(at + 4),
                              .form       = (part_shard_form_t)form,
                              .type       = (model_type_t)type,
                              .row0       = model_load_u32(at + 16),
                              .rows       = model_load_u32(at + 20),
                              .col0       = model_load_u32(at + 24),
                              .cols       = model_load_u32(at + 28),
                              .bytes      = model_load_u64(at + 32),
                              .unit_bytes = model_load_u32(at + 40),
                              .scale      = model_load_f32(at + 44),
                              .offset     = model_load_u64(at + 48),
                              .first_hash = model_load_u64(at + 56)};
    const uint32_t whats =
        p->layer == PART_SHARD_NO_LAYER ? PART_SHARD_WHATS : MODEL_LAYER_TENSOR_COUNT;
    return p->layer >= PART_SHARD_NO_LAYER && p->layer < LIMIT_LAYERS && p->what < whats &&
           form < PART_SHARD_FORMS && type < MODEL_TYPE_COUNT && isfinite(p->scale) &&
           (uint64_t)p->row0 + p->rows <= LIMIT_VOCAB && (uint64_t)p->col0 + p->cols <= LIMIT_FFN &&
           (p->bytes == 0 || (p->unit_bytes > 0 && p->unit_bytes <= p->bytes));
}

/* Pieces follow each other as part_shard_lay_out places them. */
static base_status_t pieces_load(const uint8_t *at, part_shard_head_t *head, base_err_t *err)
{
    uint64_t end   = head->data_offset;
    uint64_t units = 0;

    for (uint32_t i = 0; i < head->n_pieces; i++, at += PIECE_BYTES) {
        part_shard_piece_t *p = &head->pieces[i];
        if (!piece_load(at, p) || p->offset != end || p->bytes > head->file_bytes - end ||
            p->first_hash != units)
            return base_fail(err, BASE_ERR_INPUT, "piece %" PRIu32 " of %" PRIu32 " makes no sense",
                             i, head->n_pieces);
        end = base_round_up(end + p->bytes, PART_SHARD_ALIGN);
        units += part_shard_units(p);
        if (end > head->file_bytes || units > head->n_hashes)
            return base_fail(err, BASE_ERR_INPUT,
                             "piece %" PRIu32 " of %" PRIu32 " ends behind the file or its hashes",
                             i, head->n_pieces);
    }
    if (end == head->file_bytes && units == head->n_hashes) return BASE_OK;
    return base_fail(err, BASE_ERR_INPUT,
                     "pieces end at byte %" PRIu64 " with %" PRIu64 " hashes, the file has %" PRIu64
                     " and %" PRIu32,
                     end, units, head->file_bytes, head->n_hashes);
}

base_status_t part_shard_head_parse(const uint8_t *bytes, uint64_t n, uint64_t file_bytes,
                                    part_shard_head_t *out, base_err_t *err)
{
    part_shard_head_t head = {0};
    uint64_t          want = 0;
    base_status_t     st   = BASE_OK;

    base_assert(n >= PART_SHARD_HEAD_BYTES);
    st = part_shard_head_bytes(bytes, file_bytes, &want, err);
    if (st != BASE_OK) return st;
    base_assert(want == n);
    const model_hash_t is = head_hash(bytes, n), said = hash_load(bytes + AT_HASH);
    if (is.low != said.low || is.high != said.high)
        return base_fail(err, BASE_ERR_INPUT, "the hash of its header is wrong: it is damaged");
    head.model       = hash_load(bytes + AT_MODEL);
    head.slice       = hash_load(bytes + AT_SLICE);
    head.n_pieces    = model_load_u32(bytes + AT_PIECES);
    head.n_hashes    = model_load_u32(bytes + AT_HASHES);
    head.data_offset = n;
    head.file_bytes  = file_bytes;
    st = base_alloc((void **)&head.pieces, head.n_pieces, sizeof(*head.pieces), "pieces", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&head.hashes, head.n_hashes, sizeof(*head.hashes), "hashes", err);
    if (st == BASE_OK) st = pieces_load(bytes + PART_SHARD_HEAD_BYTES, &head, err);
    if (st != BASE_OK) goto out;
    const uint8_t *at = bytes + PART_SHARD_HEAD_BYTES + (size_t)head.n_pieces * (size_t)PIECE_BYTES;
    for (uint32_t i = 0; i < head.n_hashes; i++, at += HASH_BYTES)
        head.hashes[i] = model_load_u64(at);
    *out = head;
    head = (part_shard_head_t){0};
out:
    part_shard_head_free(&head);
    return st;
}

void part_shard_head_free(part_shard_head_t *head)
{
    free(head->pieces);
    free(head->hashes);
    memset(head, 0, sizeof(*head));
}
