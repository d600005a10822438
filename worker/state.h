/* worker/state.h
 * Inside of the worker, shared by its .c files: buffers of a step and where they lie.
 *
 * B: tokens of the largest step. W: width. Rows of a float buffer follow each other without padding
 * unless a stride is named. Everything here is reserved at creation (docs/ARCHITECTURE.md, three
 * memory lives). */
#ifndef TRIREME_WORKER_STATE_H
#define TRIREME_WORKER_STATE_H

#include "worker/screen.h"
#include "worker/shard.h"
#include "worker/worker.h"

enum {
    WORKER_NORM_BLOCK = 128, /* of the hidden vector, NUMERICS 2 */
    WORKER_ACC_ELEMS  = 1 << 17,
    WORKER_TOKENS     = 48, /* of a ternary product at a time: then weights, activations and sums of
                             * some twenty tiles lie in L2 together */
    WORKER_HEAD_SLOTS = 16, /* S of worker_head_t, at most: the bounds take 4 bytes a row each */
};

/* What one thread owns. */
typedef struct {
    int32_t       *acc; /* accumulators of a run of tiles */
    size_t         n_acc;
    worker_ahead_t ahead;   /* what it reads next: asked for while it waits */
    float         *blocks;  /* block sums of a hidden vector */
    float         *head;    /* [hd_pad] a key or value on its way into the cache */
    float         *weights; /* attention: [GROUP][PAGE] of one page */
    float         *page;    /* (m, z)[rows], o[rows][hd_pad], rows up to GROUP, of one page */
    float         *merged;  /* the same, merged */
} worker_scratch_t;

/* The KV cache of one layer: [sequence][kv head][position][hd_pad], keys and values, each of its
 * type. */
typedef struct {
    uint8_t *k, *v;
} worker_kv_t;

/* The screened head (head.c). S: vectors that pass over the coarse rows together. K:
 * WORKER_SCREEN_K_MAX. */
typedef struct {
    worker_screen_t *screen; /* with the head; NULL: it is read whole */
    uint32_t         slots;  /* S */
    worker_best_t   *floors; /* [shards][n <= S][n_top] the best known, of every shard */
    float           *floor;  /* [S] */
    worker_best_t   *list;   /* [n_out][n_top] the best of this shard */
    worker_best_t   *lists;  /* root: [n_out][shards][n_top] of all shards */
    uint32_t        *seen;   /* root: [n_out][K] ids whose logits stand in a row */
    uint32_t        *n_seen; /* root: [n_out] how many; UINT32_MAX: all, the row is whole */
} worker_head_t;

/* Root: a step whose rows are on their way. */
typedef struct {
    uint32_t row0, n_out, n_top; /* n_top 0: whole rows */
} worker_pending_t;

/* Rows of the vocabulary in the shard, as a source. */
typedef struct {
    const uint8_t  *rows;
    size_t          row_bytes;
    uint64_t        row0;
    model_source_t *source;
} worker_held_t;

/* Where a thread's share of a matrix goes on (tiles), and of the head (rows): whoever has done its
 * own takes from others'. */
typedef struct {
    _Alignas(64) _Atomic size_t tile[WORKER_MATRIX_COUNT];
    _Atomic size_t head;
} worker_left_t;

struct worker {
    worker_config_t       config;
    worker_held_t         head_rows, embed_rows;
    const model_source_t *embed_source; /* of the embedding, on stage 0 */
    kern_table_t          kern;
    uint32_t              cpu_features;
    worker_shard_t       *shard;
    uint32_t              shards, my_shard;

    /* KV cache */
    base_arena_t kv_arena;
    worker_kv_t *kv;           /* per layer of the stage */
    size_t       kv_positions; /* n_ctx rounded up to pages */
    size_t       hd_pad;
    size_t       k_elem, v_elem; /* bytes of an element */

    /* step arena */
    base_arena_t      arena;
    uint32_t         *tok_seq;  /* [B] the sequence of each token of the step */
    uint32_t         *tok_pos;  /* [B] and its position there */
    uint32_t         *out_tok;  /* [n_out] the token that each row of logits follows */
    float            *x;        /* [B][W] residual stream */
    int8_t           *q8;       /* [B][stride of the product at hand] */
    int32_t          *q_sum;    /* [B] */
    int32_t          *q_blocks; /* [B][blocks of the product at hand] sums of q over 256 columns */
    float            *hidden;   /* [B][W] the normed hidden vector, for dense products */
    float            *q_undo;   /* [B] d of NUMERICS 3 */
    float            *flat;     /* [B][(q + 2 kv) * head_dim] raw projections */
    float            *heads;    /* [group][B][its heads][hd_pad] rotated queries */
    float            *attn;     /* [B][q * head_dim] */
    float            *parts;    /* [n_parts][pages][part_floats] of items that threads share */
    size_t            n_parts;  /* how many items may be cut */
    size_t            part_floats;
    float            *gate;    /* [B][ffn] gate, then the activation */
    float            *up;      /* [B][ffn] */
    int32_t          *partial; /* [B][W tiles * 16] shares of a column-split product */
    float            *pieces;  /* pieces [B][n_s] of all shards, in shard order: see exchange.c */
    float            *whole;   /* [B][n] the same put together */
    float            *stats;   /* pieces of block sums and maxima, see exchange.c */
    float            *maxima;  /* [B][own blocks] */
    float            *row;     /* [threads][row_stride] gathered block sums of one token */
    size_t            row_stride;
    size_t            widest_piece;        /* vocabulary rows of the widest shard */
    float            *rope_cos, *rope_sin; /* [B][rope_dims / 2] */
    float            *normed;              /* [n_out][W] */
    float            *piece;               /* [n_out][own vocabulary rows] */
    float            *rows;                /* of this step, in piece */
    float            *logits;              /* root: [n_out][n_vocab] */
    float            *staging;             /* root: room for one piece of the widest */
    worker_left_t    *cursors;             /* per thread */
    worker_head_t     head;                /* with the last stage's shards and the root */
    worker_scratch_t *scratch;             /* per thread */
    uint32_t         *blocks[2];  /* [n_layers][shards] attention, FFN blocks of each shard */
    uint32_t         *lengths[3]; /* the same: elements of attention, FFN, rows of o and down */
    uint32_t         *counts, *offsets; /* [shards] of the exchange at hand */
    uint32_t         *vocab_counts, *vocab_offsets;

    /* the step at hand, written by thread 0 before the team runs */
    const int32_t *ids;
    uint32_t       n_tok, n_out, n_top;
    uint32_t       row0; /* root: of its first row of logits */
    base_status_t  st;   /* of the communication, by thread 0 */
    base_err_t     err;
    uint32_t       row_begin, row_end; /* last of several stages: the rows of piece of the step
                                        * before that had some, which may be on their way */
    bool           stop; /* a communication failed: all threads leave at the next barrier */

    worker_pending_t pending[COMM_LOGITS_AHEAD]; /* root, two stages or more: a ring */
    uint32_t         pending_first, pending_n;

    uint64_t lap_ns;                /* clock of thread 0 at the last lap */
    uint64_t part_ns[WORKER_PARTS]; /* see worker_times */
};

/* Thread 0: what passed since the last lap was this part. Others: nothing. */
void worker_lap(worker_t *w, int thread, worker_part_t part);
/* All threads meet; what passed since the last lap was this part, the barrier is WAIT. */
void worker_meet(worker_t *w, int thread, worker_part_t part);

/* r of a hidden vector, which every rank holds whole. */
float worker_hidden_rms(const worker_t *w, const float *x, float eps, worker_scratch_t *s);

/* What a screened head needs besides the step arena: coarse rows, packed by the team. After the
 * arena. Status: OK | MEMORY. */
base_status_t worker_head_create(worker_t *w, base_err_t *err);
/* The end of a step: logits to the root, or the hidden vectors to the next stage. All threads. */
void worker_output(worker_t *w, int thread, int n_threads);

/* Attention of this thread's share, layer l; writes w->attn and the statistics of its heads. A
 * barrier may be inside. */
void worker_attention(worker_t *w, uint32_t l, int thread, int n_threads);
/* Where attention puts its result, [n_tok][own heads * head_dim]: w->attn, or the own piece of a
 * vector that will be gathered. The same for the FFN activation and w->gate. */
float *worker_attn_out(worker_t *w, uint32_t l);
float *worker_ffn_out(worker_t *w, uint32_t l);
/* Copy raw projections to rotated queries and into the KV cache; this thread's share. */
void worker_store_heads(worker_t *w, uint32_t l, int thread, int n_threads);
/* cos and sin of this step's positions; this thread's share of tokens. */
void worker_rope_tables(worker_t *w, int thread, int n_threads);

/* Statistics of a sub-norm. kind 0: attention output (blocks are heads), 1: FFN activation. */
float *worker_stat_row(worker_t *w, int kind, uint32_t l, uint32_t token); /* own block sums */
float *worker_stat_max(worker_t *w, int kind, uint32_t l, uint32_t token); /* own block maxima */
/* Thread 0: reduce maxima and exchange with the other shards. */
void worker_stats_exchange(worker_t *w, int kind, uint32_t l);
/* Vectors of which each shard has a part, as pieces [n_tok][own elements] in w->pieces. which: 0
 * attention output, 1 FFN activation, 2 rows of o or down. worker_gather is thread 0's, between
 * barriers. */
float *worker_own_piece(worker_t *w, int which, uint32_t l);
void   worker_gather(worker_t *w, int which, uint32_t l);
/* One token's whole vector put together from the pieces into out. */
void worker_assemble(const worker_t *w, int which, uint32_t l, uint32_t token, float *out);

/* Sum of squares and maximum of a token's whole vector, after the exchange. `row`: scratch of at
 * least the number of all blocks. */
void worker_stats_total(const worker_t *w, int kind, uint32_t l, uint32_t token, float *row,
                        float *sumsq, float *max);

#endif
