/* worker/screen.h
 * The k largest logits of a head without reading all of it: coarse rows tell which rows can still
 * be among them, the true rows of those are read. Values and order are those of the full product,
 * bit for bit (NUMERICS 9).
 *
 * One screen holds one rank's rows. The threads of a team, always as many, run the same calls:
 *
 *   worker_screen_pack                                   once, then a barrier
 *   worker_screen_put (any thread, one for each vector)  then a barrier
 *   worker_screen_scan                                   then a barrier
 *   worker_screen_floor                                  one thread, then a barrier
 *   worker_screen_refine                                 then a barrier
 *   worker_screen_best                                   one thread
 *
 * Ranks may exchange their floors between scan and refine: the largest serves all, as each is a
 * lower bound of the k-th largest logit of the whole head. */
#ifndef TRIREME_WORKER_SCREEN_H
#define TRIREME_WORKER_SCREEN_H

#include "base/status.h"
#include "worker/kernels/kernel.h"

enum { WORKER_SCREEN_K_MAX = 256 }; /* rows wanted of one vector, at most */

/* A row of the head and its logit. Ordered by (value descending, id ascending); logits that are no
 * numbers, which only an unscreened head can give, come before all. */
typedef struct {
    float    value;
    uint32_t id;
} worker_best_t;

typedef struct {
    const kern_table_t *kern; /* these two stay the caller's and outlive the screen */
    const uint8_t      *head; /* rows in stored form */
    size_t              row_bytes;
    kern_dense_t        type;
    size_t              rows, cols; /* rows >= 0, cols >= 1 */
    uint32_t            first_id;   /* id of row 0 */
    uint32_t            n_vectors;  /* vectors of one step, at most */
    int                 n_threads;
} worker_screen_config_t;

typedef struct worker_screen worker_screen_t;

/* Bytes that a screen of these sizes holds; what one vector's pass over the coarse rows reads.
 * Pure. */
uint64_t worker_screen_bytes(size_t rows, size_t cols, uint32_t n_vectors, int n_threads);
uint64_t worker_screen_coarse_bytes(size_t rows, size_t cols);

/* Reserve. Status: OK | MEMORY. Local. */
base_status_t worker_screen_create(const worker_screen_config_t *config, worker_screen_t **out,
                                   base_err_t *err);
void          worker_screen_destroy(worker_screen_t **screen); /* accepts NULL */

/* Row `row` of the head, widened to `cols` floats. Any thread. */
typedef void worker_screen_row_fn(void *ctx, size_t row, float *out);

/* Pack this thread's rows; `rows16`: room for 16 rows of cols floats, the thread's own. A head with
 * a weight that is not finite stays unscreened: all its rows are read. */
void worker_screen_pack(worker_screen_t *screen, worker_screen_row_fn *row, void *ctx,
                        float *rows16, int thread, int n_threads);

/* The coarse rows that a thread packs and reads. */
void worker_screen_share(const worker_screen_t *screen, int thread, int n_threads,
                         const uint8_t **begin, const uint8_t **end);

/* Vector `slot` of the step: cols floats, which must stay until the step's end, and how many rows
 * are wanted, 1..WORKER_SCREEN_K_MAX. */
void worker_screen_put(worker_screen_t *screen, uint32_t slot, const float *x, uint32_t k);

/* Coarse products of this thread's rows with the vectors of slots 0..n_slots-1, and the true logits
 * of the rows that look best. */
void worker_screen_scan(worker_screen_t *screen, uint32_t n_slots, int thread, int n_threads);

/* A lower bound of the k-th largest logit: the k-th largest of those known so far; -infinity when
 * there are fewer. */
float worker_screen_floor(const worker_screen_t *screen, uint32_t slot);

/* True logits of this thread's rows that can reach `floor`, at most the k-th largest logit. */
void worker_screen_refine(worker_screen_t *screen, uint32_t slot, float floor, int thread,
                          int n_threads);

/* The k largest logits of this rank's rows, ordered; returns how many: k, or all rows. */
uint32_t worker_screen_best(const worker_screen_t *screen, uint32_t slot, worker_best_t *out);

/* Put c into an ordered list of n that keeps k at most, k >= 1; returns how many it has then. */
uint32_t worker_best_insert(worker_best_t *best, uint32_t n, uint32_t k, worker_best_t c);
/* Merge two ordered lists: out gets the first k of a[n_a] and b[n_b]; returns how many. out is
 * neither a nor b. */
uint32_t worker_best_merge(worker_best_t *out, uint32_t k, const worker_best_t *a, uint32_t n_a,
                           const worker_best_t *b, uint32_t n_b);

/* True rows read since the screen was made. Between steps. */
uint64_t worker_screen_rows_read(const worker_screen_t *screen);

#endif
