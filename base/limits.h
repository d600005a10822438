/* base/limits.h
 * Every count that enters from a file, a wire or a user has a limit here, checked at the door. */
#ifndef TRIREME_BASE_LIMITS_H
#define TRIREME_BASE_LIMITS_H

enum {
    LIMIT_RANKS         = 4096,
    LIMIT_LAYERS        = 1024,
    LIMIT_HEADS         = 1024,
    LIMIT_HEAD_DIM      = 1024,
    LIMIT_WIDTH         = 1 << 17, /* hidden width */
    LIMIT_FFN           = 1 << 19, /* feed-forward width */
    LIMIT_VOCAB         = 1 << 21,
    LIMIT_CONTEXT       = 1 << 24, /* positions of one sequence */
    LIMIT_POSITIONS     = 1 << 28, /* of all sequences of a KV cache together */
    LIMIT_THREADS       = 1024,    /* threads of one rank */
    LIMIT_BATCH         = 4096,    /* tokens of one step */
    LIMIT_SEQUENCES     = 256,     /* slots of the KV cache; runs of one step */
    LIMIT_TENSORS       = 1 << 17,
    LIMIT_TENSOR_DIMS   = 4,
    LIMIT_TENSOR_NAME   = 256, /* bytes, with the NUL */
    LIMIT_KV_PAIRS      = 1 << 16,
    LIMIT_KEY_BYTES     = 1 << 16,
    LIMIT_STRING_BYTES  = 1 << 28, /* one string value of a model file */
    LIMIT_ARRAY_DEPTH   = 1,       /* arrays of arrays are refused */
    LIMIT_TOKEN_BYTES   = 1 << 16,
    LIMIT_SPECIAL_BYTES = (1 << 24) - 1, /* all special tokens of a vocabulary together */
    LIMIT_MERGES        = 1 << 22,
    LIMIT_ALIGNMENT     = 1 << 20, /* of tensor data in a file */
    LIMIT_TEXT_BYTES    = 1 << 30, /* a prompt or a text to evaluate */
    LIMIT_PATH_BYTES    = 4096,
    LIMIT_STOP_STRINGS  = 64,
    LIMIT_COMM_BYTES    = 64 << 20, /* a vector that bench --comm measures with */
    LIMIT_MESSAGE_BYTES = 64 << 20, /* one control message */
    LIMIT_ANSWER_BYTES  = 64 << 20, /* one piece of a weight stream */
    LIMIT_MODEL_FILES   = 1024,
    LIMIT_SHARD_PIECES  = 1 << 16, /* of a file of packed weights */
    LIMIT_SHARD_UNITS   = 1 << 24, /* and the units that are hashed apart */
};

#endif
