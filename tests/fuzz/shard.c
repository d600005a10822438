/* Fuzzing the head of a file of packed weights: any bytes give a status, or a head that packs into
 * the same bytes.
 *
 * First byte: odd, and the head's hash is made right first, so that what lies behind it is reached.
 * Built and run as fuzz.h says. */
#include "model/bytes.h"
#include "partition/shard_file.h"
#include "tests/fuzz/fuzz.h"

enum { HASH_AT = 112 };

static void repair(uint8_t *bytes, size_t n)
{
    const model_hash_t parts[2] = {
        model_bytes_hash(bytes, HASH_AT),
        model_bytes_hash(bytes + PART_SHARD_HEAD_BYTES, n - PART_SHARD_HEAD_BYTES)};
    const model_hash_t h = model_hash_join(parts, 2);
    model_store_u64(bytes + HASH_AT, h.low);
    model_store_u64(bytes + HASH_AT + 8, h.high);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    part_shard_head_t head  = {0};
    base_err_t        err   = {0};
    uint64_t          n     = 0;
    uint8_t          *again = NULL;
    if (size < 1 + PART_SHARD_HEAD_BYTES) return 0;
    /* The file may be longer than the head that is read: the header's own word is taken. */
    const uint64_t file_bytes = model_load_u64(data + 1 + 32);
    if (part_shard_head_bytes(data + 1, file_bytes, &n, &err) != BASE_OK) {
        fuzz_expect(err.text[0] != '\0', "no text", NULL);
        return 0;
    }
    if (n > 1 << 20) return 0;
    uint8_t *bytes = calloc(1, n); /* short inputs: zeros behind */
    if (bytes == NULL) abort();
    memcpy(bytes, data + 1, size - 1 < n ? size - 1 : n);
    if (data[0] % 2 == 1) repair(bytes, n);
    if (part_shard_head_parse(bytes, n, file_bytes, &head, &err) != BASE_OK) {
        fuzz_expect(err.text[0] != '\0', "no text", NULL);
        goto out;
    }
    again = malloc(n);
    if (again == NULL) abort();
    part_shard_head_pack(&head, again);
    part_shard_head_free(&head);
    fuzz_expect(part_shard_head_parse(again, n, file_bytes, &head, &err) == BASE_OK, "again", &err);
    fuzz_expect(head.data_offset == n && head.file_bytes == file_bytes, "another head", NULL);
    part_shard_head_free(&head);
out:
    free(bytes);
    free(again);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

int main(int argc, char **argv)
{
    part_shard_piece_t pieces[2] = {{.layer      = 0,
                                     .what       = MODEL_ATTN_Q,
                                     .form       = PART_SHARD_T2,
                                     .type       = MODEL_TQ2_0,
                                     .rows       = 32,
                                     .cols       = 64,
                                     .bytes      = 512,
                                     .unit_bytes = 256,
                                     .scale      = 1},
                                    {.layer      = PART_SHARD_NO_LAYER,
                                     .what       = PART_SHARD_HEAD,
                                     .form       = PART_SHARD_STORED,
                                     .type       = MODEL_F16,
                                     .rows       = 40,
                                     .cols       = 64,
                                     .bytes      = 5120,
                                     .unit_bytes = 2048}};
    uint64_t           hashes[5] = {1, 2, 3, 4, 5};
    part_shard_head_t  head      = {.n_pieces = 2, .pieces = pieces, .hashes = hashes};
    fuzz_bytes_t       seeds[2]  = {0};
    if (part_shard_lay_out(&head, NULL) != BASE_OK) abort();
    uint8_t *bytes = malloc(head.data_offset);
    if (bytes == NULL) abort();
    part_shard_head_pack(&head, bytes);
    const size_t said = PART_SHARD_HEAD_BYTES + 2 * 72 + 5 * 8; /* without the zeros */
    for (uint8_t i = 0; i < 2; i++) {
        fuzz_splice(&seeds[i], 0, 0, &i, 1);
        fuzz_splice(&seeds[i], 1, 0, bytes, said);
    }
    free(bytes);
    const int rc = fuzz_main(argc, argv, seeds, 2, fuzz_mutate_bytes, 20000);
    for (int i = 0; i < 2; i++) free(seeds[i].data);
    return rc;
}

#endif
