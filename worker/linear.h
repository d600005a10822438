/* worker/linear.h
 * Products of a layer, for forward.c: run by all threads of the team, each its own tiles. */
#ifndef TRIREME_WORKER_LINEAR_H
#define TRIREME_WORKER_LINEAR_H

#include "worker/state.h"

/* The forms of an input that a matrix multiplies with. */
enum {
    WORKER_NEED_INT8  = 1u << 0, /* w->q8, q_sum, q_undo */
    WORKER_NEED_SUMS  = 1u << 1, /* w->q_blocks besides */
    WORKER_NEED_FLOAT = 1u << 2, /* run.x */
};
unsigned worker_needs(const worker_matrix_t *m);

/* One product: where the float input lies (DENSE only) and where the result goes. */
typedef struct {
    const float *x; /* [n_tok] rows, x_stride apart */
    size_t       x_stride;
    float       *out; /* row 0 of the matrix, tokens out_stride apart */
    size_t       out_stride;
    bool         add; /* out += product, not out = product */
} worker_run_t;

/* This thread's share of matrix `id` is still to be done, all of it. A barrier must follow before
 * the product, and lie behind the last one that read it. */
void worker_share_reset(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id, int thread,
                        int n_threads);

/* What this thread comes to of matrix `id`: what is left of its own part of the work; or, `help`,
 * of others'. With many tokens that is any row for some tokens, not its tiles. A barrier must
 * follow before rows are read. */
void worker_product(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id,
                    const worker_run_t *run, bool help, int thread, int n_threads);

/* w->x += product, for o and down, over all shards. False when the communication failed. Barriers
 * inside. */
bool worker_add_product(worker_t *w, uint32_t l, worker_matrix_id_t id, worker_run_t run,
                        int thread, int n_threads);

/* 1 / sqrt(sumsq / n + eps), NUMERICS 3. */
float worker_inverse_rms(float sumsq, size_t n, float eps);
/* The step D of the codes, and the factor that undoes them (NUMERICS 3). */
float worker_quant_step(float max, float r, float *undo);

/* Quantise token t's vector x (n elements, norm or NULL, its 1 / rms and max |x * norm|) into
 * w->q8. */
void worker_quantise(worker_t *w, unsigned needs, size_t t, const float *x, const float *norm,
                     float r, float max, size_t n);

#endif
