/* partition/shard_file.h
 * A file of weights as one rank holds them (--pack-cache): its header and directory, to and from
 * bytes. docs/FORMATS.md draws the layout. Pure functions; worker/shard_cache.h reads and writes
 * the file itself.
 *
 * A file holds pieces: the slice [row0, row0 + rows) x [col0, col0 + cols) of one tensor, in one
 * form. A piece is cut into units of unit_bytes (the last may be shorter), each with a hash of
 * its own in the directory: a tile of 16 rows, or as many rows in stored form. So any thread can
 * read and check any part by itself, and a part of a piece can be used under another plan. */
#ifndef TRIREME_PARTITION_SHARD_FILE_H
#define TRIREME_PARTITION_SHARD_FILE_H

#include "base/status.h"
#include "model/model.h"

enum {
    PART_SHARD_VERSION    = 1, /* of this page: header, directory, meaning of the fields */
    PART_SHARD_PACKING    = 1, /* of the tiles: raise it when worker/kernels/pack.h changes */
    PART_SHARD_HEAD_BYTES = 128,
    PART_SHARD_ALIGN      = 64,   /* of each piece in the file */
    PART_SHARD_PAGE       = 4096, /* where the first piece begins */
    PART_SHARD_NO_LAYER   = -1,
};

/* What a piece is a slice of: a model_layer_tensor_t of its layer, or without a layer: */
typedef enum {
    PART_SHARD_OUT_NORM,
    PART_SHARD_HEAD,
    PART_SHARD_EMBED,
    PART_SHARD_WHATS
} part_shard_what_t;

typedef enum {
    PART_SHARD_FLOATS, /* a vector, widened to float32 */
    PART_SHARD_STORED, /* rows in stored form, of `type` */
    PART_SHARD_T2,     /* packed tiles (kern_format_t), one scale for the tensor */
    PART_SHARD_T3,
    PART_SHARD_T2B,    /* tiles as T2, a scale for each block; the scales are the piece behind */
    PART_SHARD_SCALES, /* float32 [tiles][blocks][16] */
    PART_SHARD_FORMS
} part_shard_form_t;

typedef struct {
    int32_t           layer; /* of the model, or PART_SHARD_NO_LAYER */
    uint32_t          what;  /* model_layer_tensor_t or part_shard_what_t */
    part_shard_form_t form;
    model_type_t      type; /* STORED: of its bytes; else of the tensor it was made of */
    uint32_t          row0, rows, col0, cols;
    uint64_t          bytes;
    uint32_t          unit_bytes; /* 1 .. bytes; 0 only if there are no bytes */
    float             scale;      /* T2, T3: of the whole tensor; else 0 */
    uint64_t          offset;     /* in the file; part_shard_lay_out sets these two */
    uint64_t          first_hash; /* of its units: index into hashes */
} part_shard_piece_t;

typedef struct {
    model_hash_t        model; /* model_fingerprint */
    model_hash_t        slice; /* what else the bytes depend on: plan, rank, format; the writer's */
    uint32_t            n_pieces;
    uint32_t            n_hashes;
    part_shard_piece_t *pieces;      /* owned after parsing */
    uint64_t           *hashes;      /* XXH3 of 64 bits, of each unit; owned after parsing */
    uint64_t            data_offset; /* where the first piece may begin */
    uint64_t            file_bytes;
} part_shard_head_t;

static inline uint64_t part_shard_units(const part_shard_piece_t *p)
{
    return p->bytes == 0 ? 0 : (p->bytes + p->unit_bytes - 1) / p->unit_bytes;
}

/* Give the pieces their places, one after the other, and fill n_hashes, data_offset, file_bytes.
 * Status: OK | LIMIT (too many pieces or units). Local. */
base_status_t part_shard_lay_out(part_shard_head_t *head, base_err_t *err);

/* Header, directory and hashes: data_offset bytes into out, the rest zeros. Local. */
void part_shard_head_pack(const part_shard_head_t *head, uint8_t *out);

/* The first step of reading: from PART_SHARD_HEAD_BYTES bytes, how many the head has (data_offset).
 * Status: OK | INPUT (no such file, another version, sizes that cannot be). Local. */
base_status_t part_shard_head_bytes(const uint8_t *bytes, uint64_t file_bytes, uint64_t *head_bytes,
                                    base_err_t *err);

/* The second: the whole head, `n` bytes as the first step said, from bytes that may hold anything.
 * The head's own hash, every size, place and number is checked: pieces lie in the file in order and
 * do not overlap. Not checked: that a piece is the slice the caller wants. Texts do not name the
 * file. Status: OK | INPUT | MEMORY. Local. */
base_status_t part_shard_head_parse(const uint8_t *bytes, uint64_t n, uint64_t file_bytes,
                                    part_shard_head_t *head, base_err_t *err);
void          part_shard_head_free(part_shard_head_t *head); /* accepts a zeroed one */

#endif
