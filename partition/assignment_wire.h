/* partition/assignment_wire.h
 * What one rank gets at the start, to and from the bytes of proto/control.proto (Assignment). */
#ifndef TRIREME_PARTITION_ASSIGNMENT_WIRE_H
#define TRIREME_PARTITION_ASSIGNMENT_WIRE_H

#include "partition/plan.h"

enum {
    PART_WIRE_VERSION         = 5, /* raise it with every change of meaning in control.proto */
    PART_ASSIGNMENT_MAX_BYTES = 8 << 20, /* above what the limits of all fields allow */
    PART_PACK_NAME_BYTES      = 8,
    PART_CPU_NAME_BYTES       = 16,
};

/* One rank's part. Unpacked ones own all their pointers (part_assignment_free); for packing, the
 * caller may fill it with borrowed ones. */
typedef struct {
    part_plan_t  plan;
    uint32_t     rank;
    model_desc_t desc;       /* unpacked: layers outside the rank's stage are all zero */
    uint32_t     n_paths;    /* 0: a generated model, of synth_seed */
    const char **paths;      /* the model's files in the source's order */
    uint64_t     synth_seed; /* 0 with files */
    uint32_t     n_ctx;      /* of each sequence, 1..LIMIT_CONTEXT */
    uint32_t     n_seq;      /* 1..LIMIT_SEQUENCES */
    model_type_t type_k;     /* of the KV cache: MODEL_F16, MODEL_F32 */
    model_type_t type_v;
    uint32_t     n_batch;                    /* 1..LIMIT_BATCH */
    uint32_t     n_out_max;                  /* 1..LIMIT_BATCH */
    uint32_t     n_threads;                  /* 0: automatic */
    bool         screen;                     /* coarse rows of the head (NUMERICS 9) */
    char         pack[PART_PACK_NAME_BYTES]; /* "t2" */
    char         cpu[PART_CPU_NAME_BYTES];   /* "avx2"; "": the best there is */
} part_assignment_t;

/* Predicted bytes of its rank, with so many bits for a packed ternary weight (2 or 1.6). Pure. */
part_memory_t part_assignment_memory(const part_assignment_t *a, double ternary_bits);

/* Bytes for the rank in a->rank: *bytes_p is malloc'd, the caller frees it. Of desc only the layers
 * of that rank's stage are sent. The assignment is the caller's own and must be sound (asserted).
 * Status: OK | MEMORY. Local. */
base_status_t part_assignment_pack(const part_assignment_t *a, uint8_t **bytes_p, size_t *n_p,
                                   base_err_t *err);

/* The inverse, of bytes that may hold anything: sizes, ranges and consistency are checked, the
 * rank's layers with model_desc_check. (That tensors lie inside their files is model_source_check's
 * part.) Memory is bounded whatever the bytes say. Status: OK | PEER (text names the field) | what
 * model_desc_check says | MEMORY. Local. */
base_status_t part_assignment_unpack(const uint8_t *bytes, size_t n, part_assignment_t *a,
                                     base_err_t *err);

void part_assignment_free(part_assignment_t *a); /* accepts a zeroed one, leaves a zeroed one */

#endif
